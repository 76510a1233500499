"""Open-loop sending: no request waits for an answer, and late requests are detected.

Seeded bugs that these tests have caught: awaiting each answer before the next request; lags counted
from the previous request.
"""

import asyncio
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from experiments.real.sending import (
    CLIENTS,
    Elapsed,
    Sending,
    check_lags,
    sent_on_time,
    write_sendings,
)
from sllmcore.errors import ClusterError
from sllmcore.types import Request
from sllmcore.workload import WorkloadRequest


def job(number: int, at_s: float) -> WorkloadRequest:
    return WorkloadRequest(Request(f"r{number}", "m", at_s, 3), 5)


def test_requests_are_sent_at_their_times_without_waiting_for_answers() -> None:
    out = asyncio.Event()

    async def ask(sending: Sending, _: Elapsed) -> None:
        if sending.job.request.id == "r2":
            out.set()
        await out.wait()  # the first answers come only when the last request has been sent

    jobs = [job(number, 0.05 * number) for number in range(3)]
    sendings = asyncio.run(sent_on_time(jobs, ask, begin_in_s=0.0))

    assert [sending.job for sending in sendings] == jobs
    for sending in sendings:
        assert sending.lag_s >= 0
        assert sending.sent_at_s <= sending.ended_at_s
    assert sendings[0].ended_at_s >= 0.1


def test_an_exception_of_a_client_ends_the_replay() -> None:
    async def ask(sending: Sending, _: Elapsed) -> None:
        raise ClusterError(f"no {sending.job.request.id}")

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(sent_on_time([job(0, 0.0), job(1, 60.0)], ask, begin_in_s=0.0))

    assert raised.group_contains(ClusterError, match="no r0")


def test_a_replay_with_late_requests_is_refused() -> None:
    async def ask(sending: Sending, _: Elapsed) -> None:
        if sending.job.request.id == "r0":
            time.sleep(0.2)  # noqa: ASYNC251 - as on a busy machine

    sendings = asyncio.run(sent_on_time([job(0, 0.0), job(1, 0.05)], ask, begin_in_s=0.0))

    check_lags(sendings, max_lag_s=10.0)
    with pytest.raises(ClusterError, match=r"1 of 2 requests .* r1 by 0\.\d+ s"):
        check_lags(sendings, max_lag_s=0.1)


def test_scheduled_and_real_times_are_written(tmp_path: Path) -> None:
    sent = Sending(
        job=job(0, 1.0), sent_at_s=1.25, first_token_at_s=2.0, ended_at_s=3.0, output_tokens=5
    )
    left = Sending(job(1, 2.0), 2.0, ended_at_s=2.5, problem="left")

    write_sendings([sent, left], tmp_path)

    assert pq.read_table(tmp_path / CLIENTS).to_pylist() == [
        {
            "request_id": "r0",
            "scheduled_at_s": 1.0,
            "sent_at_s": 1.25,
            "first_token_at_s": 2.0,
            "ended_at_s": 3.0,
            "output_tokens": 5,
            "problem": "",
        },
        {
            "request_id": "r1",
            "scheduled_at_s": 2.0,
            "sent_at_s": 2.0,
            "first_token_at_s": None,
            "ended_at_s": 2.5,
            "output_tokens": 0,
            "problem": "left",
        },
    ]
    assert sent.lag_s == 0.25
