"""The configuration of a run: everything that determines its results, but the program."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from experiments.config.cluster import ClusterConfig
from experiments.config.driver import DriverConfig
from experiments.config.models import ModelsConfig
from experiments.config.reading import read_config
from sllmcore.build import PolicySettings, check_settings
from sllmcore.errors import UsageError
from traces.pipe import is_pipe
from traces.spec import WorkloadSpec


@dataclass(frozen=True, slots=True)
class RunConfig:
    """A run.

    Args:
        name: Label of the run, also in the name of the output folder.
        seed: Seed of the workload, the faults, the phases and the policy's random choices, each
            with a stream of its own: all policies get the same requests and faults.
    """

    name: str
    seed: int
    driver: DriverConfig
    cluster: ClusterConfig
    models: ModelsConfig
    workload: WorkloadSpec
    policy: PolicySettings

    def __post_init__(self) -> None:
        check_settings(self.policy)
        if self.seed < 0:
            raise UsageError(f"seed must be 0 or more, got {self.seed}")
        self._check_fits()

    def _check_fits(self) -> None:
        """Refuse a model that no server can hold."""
        gpu, most = self.cluster.gpu, self.cluster.max_gpus_per_server
        for name, deployment in self.models.deployments.items():
            num_gpus = deployment.gpus_per_instance(gpu)
            fits = deployment.size_bytes <= num_gpus * gpu.memory_bytes
            if num_gpus > most or not fits:
                raise UsageError(
                    f"models.deployments.{name}: {deployment.model} in {deployment.dtype} "
                    f"({deployment.size_bytes} bytes) on {num_gpus} GPUs fits on no server: the "
                    f"largest has {most} {gpu.name} of {gpu.memory_bytes} bytes"
                )


def run_config(plain: object) -> RunConfig:
    """Return the run of a composed config, checked but not started.

    Raises:
        UsageError: A value is wrong; the error names its key.
    """
    config = read_config(RunConfig, _with_scheduler_as_name(plain))
    for path in config.workload.paths:
        if not (Path(path).is_file() or is_pipe(path)):
            raise UsageError(f"workload.path: there is no file {path!r}")
    return config


def _with_scheduler_as_name(plain: object) -> object:
    """Replace `policy.scheduler`, a registered name or `module:name`, by `policy.name`."""
    policy = plain.get("policy") if isinstance(plain, Mapping) else None
    if not isinstance(plain, Mapping) or not isinstance(policy, Mapping):
        return plain
    rest = {key: value for key, value in policy.items() if key != "scheduler"}
    scheduler = policy.get("scheduler")
    return {**plain, "policy": rest if scheduler is None else {**rest, "name": scheduler}}


def plain_config(config: RunConfig) -> dict[str, object]:
    """Return a run as dicts, lists and primitives: the inverse of `run_config`."""
    plain: dict[str, object] = msgspec.to_builtins(config)
    return plain
