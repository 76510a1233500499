"""The mapping of functions to models, and the two readings of a CV of 8."""

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from sllmcore.workload import WorkloadRequest
from tests.traces.conftest import WriteTrace
from traces.account import Account
from traces.errors import TraceError
from traces.spec import WorkloadSpec
from traces.workload import workload_requests

MODELS = ("a", "b", "c", "d")


def requests_of(
    seed: int = 0, account: Account | None = None, **fields: Any
) -> list[WorkloadRequest]:
    return list(workload_requests(WorkloadSpec(**fields), MODELS, seed, account))


def test_functions_are_striped_or_kept_in_blocks(write_trace: WriteTrace) -> None:
    path = str(write_trace("HashFunction,1\n" + "".join(f"f{i},1\n" for i in range(8))))

    calls = {
        mapping: Counter(
            item.request.model
            for item in requests_of(kind="azure_functions_2019", path=path, mapping=mapping)
        )
        for mapping in ("stripe", "blocks")
    }

    assert calls["stripe"] == calls["blocks"] == dict.fromkeys(MODELS, 2)


def test_functions_without_calls_in_the_stretch_get_no_model(
    write_trace: WriteTrace,
) -> None:
    path = str(write_trace("HashFunction,1,2\nf0,0,1\nf1,1,0\nf2,0,1\nf3,0,1\n"))

    requests = requests_of(kind="azure_functions_2019", path=path, start_s=60.0)

    assert {item.request.model for item in requests} == {"a", "b", "c"}


@pytest.mark.parametrize("reading", ["absolute", "fitted"])
def test_both_readings_of_the_cv_keep_the_target_rate(
    write_trace: WriteTrace, reading: str
) -> None:
    text = "HashFunction," + ",".join(map(str, range(1, 61))) + "\n"
    text += "".join(f"f{i}," + ",".join(["50"] * 60) + "\n" for i in range(40))
    path = str(write_trace(text))
    fields: dict[str, Any] = {"kind": "azure_functions_2019", "path": path, "target_rps": 3.0}

    counts = [len(requests_of(seed, cv_reading=reading, cv=2.0, **fields)) for seed in range(5)]

    assert sum(counts) / 5 == pytest.approx(3.0 * 3600, rel=0.1)


def test_a_fitted_cv_multiplies_the_cv_of_the_window(write_trace: WriteTrace) -> None:
    beat = "app,func,end_timestamp,duration\n" + "".join(f"x,f,{i}.0,0\n" for i in range(1200))
    path = str(write_trace(beat))
    fields: dict[str, Any] = {"kind": "azure_functions_2021", "path": path, "cv": 8.0}

    fitted = requests_of(cv_reading="fitted", **fields)
    absolute = requests_of(cv_reading="absolute", window_s=600.0, **fields)

    gaps = [
        y.request.arrived_at_s - x.request.arrived_at_s
        for x, y in pairwise(fitted)
        if int(x.request.arrived_at_s // 600) == int(y.request.arrived_at_s // 600)
    ]
    # A beat has CV 0, and 8 x 0 is 0. The recipe adds 1 us to every gap.
    assert gaps == pytest.approx([1.0] * len(gaps), abs=1e-5)
    assert (
        max(y.request.arrived_at_s - x.request.arrived_at_s for x, y in pairwise(absolute)) > 10.0
    )


def test_a_window_with_two_calls_yields_no_arrivals_under_the_fit(write_trace: WriteTrace) -> None:
    text = "app,func,end_timestamp,duration\nx,f,1.0,0\nx,f,2.0,0\n"
    account = Account()

    with pytest.raises(TraceError, match="Gamma processes in place of 2 rows have no arrival"):
        requests_of(
            kind="azure_functions_2021",
            path=str(write_trace(text)),
            cv_reading="fitted",
            account=account,
        )

    assert (account.rows_read, account.replaced) == (2, 2)
