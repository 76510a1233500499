"""The seam between a workload and whatever serves it: our cluster, or another system."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sllmcore.metrics import Summary
from sllmcore.workload import WorkloadRequest
from sllmreal.control.deployment import ModelDeployment


@dataclass(frozen=True, slots=True)
class Workload:
    """What is replayed.

    Args:
        models: All that are served, in the order of the config.
        jobs: In order of arrival, from 0 s on; each names one of the models. A prompt is
            `prompt_of` the job.
        max_send_lag_s: A request that is sent later than that after its arrival spoils the run.
    """

    models: tuple[ModelDeployment, ...]
    jobs: tuple[WorkloadRequest, ...]
    max_send_lag_s: float


class System(Protocol):
    """Serves models on real processes."""

    def replay(self, workload: Workload, folder: Path) -> Summary:
        """Serve the models, send every job at its time, wait for the ends, and stop everything.

        Times count from the moment that a job arriving at 0 s is due. Into `folder`, which is
        there, go at least `requests.parquet` (the columns of `REQUEST_COLUMNS`) and
        `clients.parquet` (`sending.write_sendings`); `instances.parquet` and the journal where the
        system has such.

        Raises:
            ClusterError: A process broke, or requests were sent too late.
        """
        ...


def prompt_of(job: WorkloadRequest) -> tuple[int, ...]:
    """A job's prompt: token ids below its length, which is within every model's vocabulary."""
    return tuple(range(job.request.input_tokens))
