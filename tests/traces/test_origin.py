"""The zero of a trace is its earliest row, whatever clock the file has."""

from pathlib import Path
from typing import Any

import pytest

from sllmcore.workload import WorkloadRequest
from tests.traces.conftest import WriteTrace
from traces.account import Account
from traces.cli import main
from traces.errors import TraceError
from traces.read import ReadOptions, read_trace
from traces.spec import WorkloadSpec
from traces.summary import summary_of
from traces.workload import workload_requests

MOONCAKE = "timestamp,input_length,output_length\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
FIRST_ROW_LATE = (
    AZURE
    + "2023-11-16 18:17:05.5319600,31,1\n"
    + "2023-11-16 18:17:04.0319600,3180,8\n"
    + "2023-11-16 18:17:03.9819600,4808,10\n"
)


def requests_of(path: Path, account: Account | None = None, **fields: Any) -> list[WorkloadRequest]:
    spec = WorkloadSpec(**{"kind": "trace", "path": str(path), **fields})
    return list(workload_requests(spec, ("a", "b"), 0, account))


def arrivals(requests: list[WorkloadRequest]) -> list[float]:
    return [item.request.arrived_at_s for item in requests]


@pytest.mark.parametrize("offset", [0, 977_000, 1_777_142_838_338])
def test_the_earliest_row_is_zero(write_trace: WriteTrace, offset: int) -> None:
    rows = "".join(f"{offset + at_ms},5,5\n" for at_ms in (0, 1000, 2500))

    times = [row.at_s for row in read_trace([write_trace(MOONCAKE + rows)])]

    assert times == pytest.approx([0.0, 1.0, 2.5], abs=1e-6)


def test_rows_before_the_first_one_of_the_file_are_sorted_in(write_trace: WriteTrace) -> None:
    requests = requests_of(write_trace(FIRST_ROW_LATE))

    assert arrivals(requests) == pytest.approx([0.0, 0.05, 1.55])
    assert [item.request.input_tokens for item in requests] == [4808, 3180, 31]


def test_rows_before_the_first_one_are_exported_in_order(
    write_trace: WriteTrace, tmp_path: Path
) -> None:
    out = tmp_path / "jobs.jsonl"
    path = write_trace(FIRST_ROW_LATE)

    assert main(["export", str(out), "--set", "kind=azure_llm", f"path={path}"]) == 0
    spec = WorkloadSpec(kind="jobs", path=str(out))
    back = list(workload_requests(spec, ("model-0",), 0))

    assert arrivals(back) == pytest.approx([0.0, 0.05, 1.55])


def test_a_first_row_that_is_later_than_the_tolerance_is_an_error(write_trace: WriteTrace) -> None:
    path = write_trace(AZURE + "2023-11-16 18:17:35,1,1\n2023-11-16 18:17:05,1,1\n")

    with pytest.raises(TraceError, match="time goes back by 30"):
        requests_of(path)


def test_a_failed_first_row_is_the_zero_too(write_trace: WriteTrace) -> None:
    names = "Timestamp,Model,Request tokens,Response tokens\n"
    path = write_trace(names + "500,ChatGPT,9,0\n503,ChatGPT,9,4\n")

    dropped, kept = (
        [row.at_s for row in read_trace([path], ReadOptions(failed_rows=choice))]
        for choice in ("drop", "keep")
    )

    assert (dropped, kept) == ([3.0], [0.0, 3.0])


@pytest.mark.parametrize("offset", [0, 977_000, 1_777_142_838_338])
def test_the_rate_of_a_slice_is_that_of_its_rows(write_trace: WriteTrace, offset: int) -> None:
    rows = "".join(f"{offset + 1000 * place},5,5\n" for place in range(101))
    path, account = write_trace(MOONCAKE + rows), Account()

    numbers = summary_of(read_trace([path]))
    requests = requests_of(path, account, target_rps=1.01)

    assert numbers.rate_rps == pytest.approx(1.01)
    assert (len(requests), account.copied) == (101, 0)


def test_the_rate_of_a_slice_of_an_exported_workload_is_that_of_its_rows(
    write_trace: WriteTrace,
) -> None:
    rows = "".join(f"{9_000_000 + 1000 * place},5,5,a\n" for place in range(101))
    path = write_trace(MOONCAKE.strip() + ",model\n" + rows)

    requests = requests_of(path, kind="jobs", target_rps=1.01)

    assert len(requests) == 101
    assert arrivals(requests)[0] == 9000.0


def test_an_exported_workload_with_stamps_since_1970_begins_at_zero(
    write_trace: WriteTrace,
) -> None:
    path = write_trace(MOONCAKE.strip() + ",model\n1777142838338,5,5,a\n1777142839338,5,5,a\n")

    assert arrivals(requests_of(path, kind="jobs")) == pytest.approx([0.0, 1.0])


def test_a_rate_that_needs_thousands_of_copies_is_an_error(write_trace: WriteTrace) -> None:
    path = write_trace(MOONCAKE + "0,5,5\n9000000000,5,5\n")

    with pytest.raises(TraceError, match="would copy each row 22500000 times"):
        requests_of(path, target_rps=5.0)


def test_a_start_counts_from_the_earliest_row(write_trace: WriteTrace) -> None:
    path = write_trace(MOONCAKE + "500000,1,1\n501000,2,1\n504000,3,1\n")

    assert arrivals(requests_of(path, start_s=1.0)) == [0.0, 3.0]


def test_a_slice_of_servegen_begins_at_its_first_window(write_trace: WriteTrace) -> None:
    names = "model,client,timestamp_s,rate_rps,pattern,shape\n"
    path = write_trace(names + "m,1,600000,0.05,Gamma,1\nm,1,600600,0.05,Gamma,1\n")

    times = arrivals(requests_of(path, target_rps=0.05))

    assert 40 <= len(times) <= 80
    assert max(times) < 1200
