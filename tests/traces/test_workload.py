from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sllmcore.errors import UsageError
from sllmcore.types import Request
from sllmcore.workload import WorkloadRequest
from tests.traces.conftest import WriteTrace
from traces.account import Account
from traces.errors import TraceError
from traces.popularity import Popularity
from traces.report import TraceReport
from traces.spec import WorkloadSpec
from traces.workload import workload_requests

MODELS = ("a", "b", "c", "d")
MINUTES = "HashFunction,1,2,3\n" + "".join(f"f{i},{i % 4},{i % 3},{i}\n" for i in range(1, 13))
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n" + "".join(
    f"{3 * i},ChatGPT,{100 + i},{i % 5},1,API log\n" for i in range(50)
)
CALLS = "app,func,end_timestamp,duration\n" + "".join(
    f"x,f{i % 7},{2.0 * i + (i % 3) / 10 + 0.5},0.5\n" for i in range(300)
)


def requests_of(
    seed: int = 0, account: Account | None = None, **fields: Any
) -> list[WorkloadRequest]:
    return list(workload_requests(WorkloadSpec(**fields), MODELS, seed, account))


def balanced(account: Account) -> bool:
    """Return True if the identity in the module of `Account` holds."""
    came = account.rows_read + account.copied + account.generated
    left = account.before_start + account.after_end + account.failed_dropped
    return came == left + account.thinned + account.replaced + account.jobs


def test_every_row_of_a_file_is_exactly_one_request(write_trace: WriteTrace) -> None:
    path = write_trace("timestamp,input_length,output_length\n0,10,1\n500,20,2\n1500,30,3\n")

    requests = requests_of(
        kind="mooncake", path=str(path), popularity=Popularity("power_law", alpha=900)
    )

    assert requests == [
        WorkloadRequest(Request("r0", "a", 0.0, 10), 1),
        WorkloadRequest(Request("r1", "a", 0.5, 20), 2),
        WorkloadRequest(Request("r2", "a", 1.5, 30), 3),
    ]


def test_rows_without_tokens_are_requests_of_one_token(write_trace: WriteTrace) -> None:
    path = write_trace("timestamp,input_length,output_length\n0,0,0\n")

    requests = requests_of(kind="mooncake", path=str(path))

    assert (requests[0].request.input_tokens, requests[0].output_tokens) == (1, 1)


def test_failed_rows_are_dropped_and_counted_or_kept_as_one_token(write_trace: WriteTrace) -> None:
    path, account = str(write_trace(BURST)), Account()

    dropped = requests_of(kind="burstgpt", path=path, account=account)
    kept = requests_of(kind="burstgpt", path=path, failed_rows="keep")

    assert (len(dropped), account.failed_dropped, account.rows_read) == (40, 10, 50)
    assert len(kept) == 50
    assert kept[0].output_tokens == kept[1].output_tokens == 1


CLIENTS = "model,client,timestamp_s,rate_rps,pattern,shape\n" + "".join(
    f"m-small,{client},{600 * window},0.0{client + 1},Gamma,0.3\n"
    for client in range(5)
    for window in range(2)
)

FILE_SPECS: dict[str, tuple[str, dict[str, Any]]] = {
    "minutes": (MINUTES, {"kind": "azure_functions_2019"}),
    "minutes thinned": (MINUTES, {"kind": "azure_functions_2019", "rate_factor": 0.4}),
    "beat thinned": (
        MINUTES,
        {"kind": "azure_functions_2019", "rate_factor": 0.4, "minute_gaps": "equidistant"},
    ),
    "minutes absolute": (MINUTES, {"kind": "azure_functions_2019", "cv_reading": "absolute"}),
    "minutes fitted": (
        MINUTES,
        {"kind": "azure_functions_2019", "cv_reading": "fitted", "target_rps": 2.0},
    ),
    "calls": (CALLS, {"kind": "azure_functions_2021", "mapping": "blocks"}),
    "calls by popularity": (CALLS, {"kind": "azure_functions_2021", "mapping": "popularity"}),
    "calls fitted": (CALLS, {"kind": "azure_functions_2021", "cv_reading": "fitted", "cv": 2.0}),
    "calls absolute": (
        CALLS,
        {"kind": "azure_functions_2021", "cv_reading": "absolute", "mapping": "blocks"},
    ),
    "clients": (CLIENTS, {"kind": "servegen", "target_rps": 0.2, "mapping": "blocks"}),
    "clients detected": (CLIENTS, {"kind": "trace", "rate_factor": 3.2}),
    "failures": (BURST, {"kind": "burstgpt", "target_rps": 1.7}),
    "failures in time": (BURST, {"kind": "burstgpt", "target_rps": 1.7, "scaling": "time"}),
}


@pytest.mark.parametrize("name", sorted(FILE_SPECS))
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 1000),
    limit=st.none() | st.integers(1, 90),
    start_s=st.sampled_from([0.0, 30.0, 75.5]),
    duration_s=st.sampled_from([None, 40.0, 120.0]),
)
def test_every_row_is_accounted_for_under_any_settings(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    seed: int,
    limit: int | None,
    start_s: float,
    duration_s: float | None,
) -> None:
    text, fields = FILE_SPECS[name]
    path = tmp_path_factory.getbasetemp() / f"{name}.csv"
    path.write_text(text)
    account = Account()

    try:
        requests = requests_of(
            seed,
            account,
            path=str(path),
            start_s=start_s,
            duration_s=duration_s,
            max_requests=limit,
            **fields,
        )
    except TraceError as error:
        assert "the workload has no requests" in str(error)
        requests = []

    assert balanced(account)
    assert account.jobs == len(requests) <= (limit or len(requests))
    arrivals = [item.request.arrived_at_s for item in requests]
    assert arrivals == sorted(arrivals)
    assert all(0 <= at_s < (duration_s or 1e9) for at_s in arrivals)
    assert [item.request.id for item in requests] == [f"r{i}" for i in range(len(requests))]
    assert {item.request.model for item in requests} <= set(MODELS)


GENERATED: list[dict[str, Any]] = [
    {"kind": "poisson"},
    {"kind": "gamma", "cv": 4.0},
    {"kind": "azure_like", "pattern": "conv", "lengths": "azure_conv"},
    {"kind": "azure_like", "pattern": "code", "lengths": "azure_code"},
    {"kind": "azure_like", "num_functions": 40, "diurnal": "conv"},
]


@pytest.mark.parametrize("fields", GENERATED)
def test_a_generated_workload_is_the_same_for_the_same_seed(fields: dict[str, Any]) -> None:
    once, again, other = (
        requests_of(seed, target_rps=2.0, duration_s=300.0, **fields) for seed in (4, 4, 5)
    )

    assert once == again
    assert once != other


@pytest.mark.parametrize("fields", GENERATED)
def test_a_number_of_requests_is_met_exactly(fields: dict[str, Any]) -> None:
    requests = requests_of(target_rps=2.0, max_requests=250, **fields)

    assert len(requests) == 250
    assert all(x.request.arrived_at_s <= y.request.arrived_at_s for x, y in pairwise(requests))


def test_requests_are_made_when_they_are_taken() -> None:
    spec = WorkloadSpec(kind="poisson", target_rps=1000.0, max_requests=10**12)

    requests = list(islice(workload_requests(spec, MODELS, 0), 5))

    assert [item.request.id for item in requests] == ["r0", "r1", "r2", "r3", "r4"]


def test_a_request_of_one_model_keeps_its_lengths_when_a_model_is_added() -> None:
    spec = WorkloadSpec(
        kind="poisson", target_rps=2.0, duration_s=200.0, popularity=Popularity("uniform")
    )
    bigger = WorkloadSpec(
        kind="poisson", target_rps=3.0, duration_s=200.0, popularity=Popularity("uniform")
    )

    two = list(workload_requests(spec, ("a", "b"), 1))
    three = list(workload_requests(bigger, ("a", "c", "b"), 1))

    def facts(requests: list[WorkloadRequest]) -> list[tuple[float, int, int]]:
        return [
            (item.request.arrived_at_s, item.request.input_tokens, item.output_tokens)
            for item in requests
            if item.request.model == "b"
        ]

    assert facts(two) == facts(three)


@pytest.mark.parametrize("fields", [{"rate_factor": 0.5}, {"cv_reading": "fitted"}, {}])
def test_a_trace_without_calls_is_an_error(write_trace: WriteTrace, fields: dict[str, Any]) -> None:
    path = str(write_trace("HashFunction,1,2\nf,0,0\n"))

    with pytest.raises(TraceError, match="the workload has no requests"):
        requests_of(kind="azure_functions_2019", path=path, **fields)


@pytest.mark.parametrize(
    ("rows", "fields", "reason"),
    [
        ("", {}, "the trace has no rows"),
        ("0,a,5,0\n4,a,5,0\n", {}, "all 2 rows are failures"),
        ("0,a,5,1\n4,a,5,1\n", {"start_s": 50.0}, "no row is at start_s=50 s or later"),
        (
            "0,a,5,1\n9,a,5,1\n",
            {"start_s": 3.0, "duration_s": 2.0},
            "no row is between 3 s and 5 s",
        ),
        ("0,a,5,1\n9,a,5,1\n", {"rate_factor": 1e-9}, "no row was kept at this rate"),
    ],
)
def test_a_workload_without_requests_is_an_error_with_its_reason(
    write_trace: WriteTrace, rows: str, fields: dict[str, Any], reason: str
) -> None:
    path = str(write_trace("Timestamp,Model,Request tokens,Response tokens\n" + rows))

    with pytest.raises(TraceError, match=f"the workload has no requests: {reason}"):
        requests_of(kind="burstgpt", path=path, **fields)


def test_a_generator_that_has_no_arrival_is_an_error() -> None:
    with pytest.raises(TraceError, match="no arrival in 1 s at 1e-09 requests/s"):
        requests_of(kind="poisson", target_rps=1e-9, duration_s=1.0)


def test_patience_is_counted_from_the_arrival() -> None:
    requests = requests_of(kind="poisson", target_rps=1.0, max_requests=3, patience_s=30.0)

    assert [item.cancel_at_s for item in requests] == [
        item.request.arrived_at_s + 30.0 for item in requests
    ]


def test_lengths_are_cut_to_the_context() -> None:
    requests = requests_of(
        kind="poisson",
        target_rps=1.0,
        max_requests=500,
        lengths="azure_conv",
        context_limit_tokens=1000,
        total_limit_tokens=1024,
    )

    assert max(item.request.input_tokens for item in requests) == 1000
    assert max(item.request.input_tokens + item.output_tokens for item in requests) == 1024


def test_a_trace_is_thinned_to_the_target_rate(write_trace: WriteTrace) -> None:
    account = Account()
    path = write_trace(MINUTES.replace("12\n", "9000\n"))

    requests = requests_of(
        kind="azure_functions_2019", path=str(path), target_rps=10.0, account=account
    )

    assert len(requests) == pytest.approx(1800, rel=0.1)  # 10/s for 180 s
    assert account.thinned == account.rows_read - len(requests)


def test_a_trace_is_copied_up_to_the_target_rate_and_keeps_its_variation(
    write_trace: WriteTrace,
) -> None:
    rows = [*range(0, 10_000, 1000), *range(100_000, 200_000, 200)]  # 1/s, silence, 5/s
    text = "timestamp,input_length,output_length\n" + "".join(f"{ms},7,1\n" for ms in rows)
    account = Account()

    requests = requests_of(
        kind="mooncake", path=str(write_trace(text)), rate_factor=2.5, account=account
    )

    assert len(requests) == pytest.approx(2.5 * len(rows), rel=0.05)
    assert account.copied == len(requests) - len(rows)
    busy = sum(item.request.arrived_at_s >= 100.0 for item in requests)
    assert busy == pytest.approx(2.5 * 500, rel=0.05)


def test_scaling_by_time_divides_all_times(write_trace: WriteTrace) -> None:
    path = str(write_trace("timestamp,input_length,output_length\n0,1,1\n4000,2,1\n8000,3,1\n"))

    requests = requests_of(kind="mooncake", path=path, rate_factor=4.0, scaling="time")

    assert [item.request.arrived_at_s for item in requests] == [0.0, 1.0, 2.0]


def test_the_start_is_cut_off_and_becomes_zero(write_trace: WriteTrace) -> None:
    path, account = str(write_trace(BURST)), Account()

    requests = requests_of(
        kind="burstgpt", path=path, start_s=60.0, failed_rows="keep", account=account
    )

    assert requests[0].request.arrived_at_s == 0.0
    assert (account.before_start, len(requests)) == (20, 30)


@pytest.mark.parametrize(
    ("models", "seed", "problem"),
    [
        ((), 0, "at least one model"),
        (("a", "b", "a"), 0, "'a' is named twice"),
        (("a",), -1, "seed"),
    ],
)
def test_bad_arguments_are_refused_at_once(
    models: tuple[str, ...], seed: int, problem: str
) -> None:
    spec = WorkloadSpec(kind="poisson", target_rps=1.0, max_requests=1)

    with pytest.raises(UsageError, match=problem):
        workload_requests(spec, models, seed)


def test_a_target_rate_for_a_trace_of_no_length_is_an_error(write_trace: WriteTrace) -> None:
    path = str(write_trace("timestamp,input_length,output_length\n0,1,1\n"))

    with pytest.raises(TraceError, match="target_rps needs a trace with a rate"):
        requests_of(kind="mooncake", path=path, target_rps=1.0)


def test_a_request_beyond_any_context_is_noted_once(write_trace: WriteTrace) -> None:
    path = write_trace("timestamp,input_length,output_length\n0,5,5\n1,3000000,9\n2,4000000,9\n")
    report = TraceReport()

    spec = WorkloadSpec(kind="mooncake", path=str(path), time_unit="s")
    list(workload_requests(spec, MODELS, 0, None, report))

    assert report.notes[0].startswith("request r1 has 3000009 tokens, more than the context")
    assert len(report.notes) == 1
