import json
from pathlib import Path
from typing import Any

import pytest

from sllmcore.workload import WorkloadRequest
from traces.account import Account
from traces.errors import TraceError
from traces.export import export_requests
from traces.spec import WorkloadSpec
from traces.workload import workload_requests

MODELS = ("a", "b", "c", "d")


def requests_of(
    seed: int = 0, account: Account | None = None, **fields: Any
) -> list[WorkloadRequest]:
    return list(workload_requests(WorkloadSpec(**fields), MODELS, seed, account))


def test_exported_requests_are_read_back_with_their_models(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    requests = requests_of(kind="azure_like", target_rps=2.0, max_requests=300)

    num = export_requests(iter(requests), path)
    back = requests_of(kind="jobs", path=str(path))

    assert num == len(back) == 300
    for was, now in zip(requests, back, strict=True):
        assert now.request.arrived_at_s == pytest.approx(was.request.arrived_at_s, rel=1e-15)
        assert (now.request.model, now.request.input_tokens, now.output_tokens) == (
            was.request.model,
            was.request.input_tokens,
            was.output_tokens,
        )


def test_an_exported_request_of_a_model_that_is_not_deployed_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    record = {"timestamp": 0, "input_length": 1, "output_length": 1, "model": "zz"}
    path.write_text(json.dumps(record) + "\n")

    with pytest.raises(TraceError, match="'zz', which is not among the models"):
        requests_of(kind="jobs", path=str(path))


def test_an_export_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def failing() -> Any:
        yield from requests_of(kind="poisson", target_rps=1.0, max_requests=2)
        raise TraceError("broken half way")

    with pytest.raises(TraceError, match="broken half way"):
        export_requests(failing(), tmp_path / "jobs.jsonl")

    assert list(tmp_path.iterdir()) == []
