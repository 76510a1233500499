"""Open-loop sending: each request is sent at its arrival time, independent of other answers.

    lag = sent - (start + arrival)

A sender that falls behind would measure another workload than the intended one. So the lag of each
request is recorded, and a run with a lag above the bound is refused.
"""

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

from experiments.simulation.parquet_file import write_table
from sllmcore.errors import ClusterError
from sllmcore.metrics.tables import Table
from sllmcore.workload import WorkloadRequest

CLIENTS = "clients.parquet"
CLIENT_COLUMNS = {
    "request_id": "s",
    "scheduled_at_s": "f",  # the trace's arrival
    "sent_at_s": "f",
    "first_token_at_s": "f",
    "ended_at_s": "f",
    "output_tokens": "i",  # received by the client
    "problem": "s",  # the error of its stream; empty: none
}


@dataclass(slots=True)
class Sending:
    """A request as its client observed it; times count from the start of the workload."""

    job: WorkloadRequest
    sent_at_s: float = nan
    first_token_at_s: float = nan
    ended_at_s: float = nan
    output_tokens: int = 0
    problem: str = ""

    @property
    def lag_s(self) -> float:
        """Seconds from the request's arrival time to its sending."""
        return self.sent_at_s - self.job.request.arrived_at_s


Elapsed = Callable[[], float]  # since the start of the workload
Ask = Callable[[Sending, Elapsed], Awaitable[None]]  # sends one request and fills in the rest


async def sent_on_time(
    jobs: Sequence[WorkloadRequest], ask: Ask, begin_in_s: float = 0.1
) -> list[Sending]:
    """Send each request at its arrival; return when all have ended.

    Args:
        jobs: The requests in order of arrival.
        ask: Sends a request and waits for its end; an error that it raises ends the run.
        begin_in_s: Time from now to the workload's 0 s.
    """
    loop = asyncio.get_running_loop()
    start_s = loop.time() + begin_in_s

    def elapsed_s() -> float:
        return loop.time() - start_s

    sendings = [Sending(job) for job in jobs]
    async with asyncio.TaskGroup() as group:
        for sending in sendings:
            delay_s = sending.job.request.arrived_at_s - elapsed_s()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            group.create_task(_sent(sending, ask, elapsed_s))
    return sendings


async def _sent(sending: Sending, ask: Ask, elapsed_s: Elapsed) -> None:
    sending.sent_at_s = elapsed_s()
    await ask(sending, elapsed_s)
    sending.ended_at_s = elapsed_s()


def check_lags(sendings: Sequence[Sending], max_lag_s: float) -> None:
    """Refuse a replay with requests that were sent too late.

    Raises:
        ClusterError: A lag exceeds `max_lag_s`; the message has the number of such requests.
    """
    late = [sending for sending in sendings if sending.lag_s > max_lag_s]
    if late:
        worst = max(late, key=lambda sending: sending.lag_s)
        raise ClusterError(
            f"{len(late)} of {len(sendings)} requests were sent more than {max_lag_s:g} s late, "
            f"{worst.job.request.id} by {worst.lag_s:.3f} s: this machine is too busy to measure on"
        )


def write_sendings(sendings: Sequence[Sending], folder: Path) -> None:
    """Write clients.parquet, with a row per request by arrival."""
    table = Table(CLIENT_COLUMNS)
    for one in sendings:
        table.append(
            (
                one.job.request.id,
                one.job.request.arrived_at_s,
                one.sent_at_s,
                one.first_token_at_s,
                one.ended_at_s,
                one.output_tokens,
                one.problem,
            )
        )
    write_table(table, folder / CLIENTS, range(len(sendings)))


def lags_s(sendings: Sequence[Sending]) -> "array[float]":
    """Return the lags of all requests by arrival."""
    return array("d", (sending.lag_s for sending in sendings))
