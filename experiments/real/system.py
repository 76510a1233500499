"""The interface of a system that serves a workload: a real cluster of ours, or another system."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sllmcore.metrics import Summary
from sllmcore.workload import WorkloadRequest
from sllmreal.control.deployment import ModelDeployment


@dataclass(frozen=True, slots=True)
class Workload:
    """Models and requests to replay.

    Args:
        models: The models, in the order of the config.
        jobs: The requests in order of arrival, from 0 s on. A request's prompt is `prompt_of` it.
        max_send_lag_s: Bound of the lag of a request; a larger one makes the run invalid.
    """

    models: tuple[ModelDeployment, ...]
    jobs: tuple[WorkloadRequest, ...]
    max_send_lag_s: float


class System(Protocol):
    """Serves models on real processes."""

    def replay(self, workload: Workload, folder: Path) -> Summary:
        """Serve the models, send each request at its arrival, and stop when all have ended.

        Times count from the workload's 0 s. Writes at least `requests.parquet` (the columns of
        `REQUEST_COLUMNS`) and `clients.parquet` (`sending.write_sendings`) into `folder`, which
        exists; also `instances.parquet` and the journal if the system has them.

        Raises:
            ClusterError: A process failed, or requests were sent too late.
        """
        ...


def prompt_of(job: WorkloadRequest) -> tuple[int, ...]:
    """Return a request's prompt: token ids 0 to its length, within each model's vocabulary."""
    return tuple(range(job.request.input_tokens))
