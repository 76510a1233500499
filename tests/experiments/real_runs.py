"""Runs on a cluster inside this process with small models; each takes a second."""

from pathlib import Path

from experiments import compare, run
from tests.experiments.commands import called

# OPT-125M on an A40: 40 ms to load from SSD, 1.5 ms a token.
SMALL_REAL = (
    "driver=real",
    "driver.real.placement=in_process",
    "driver.real.max_send_lag_s=60",
    "cluster=small",
    "models=opt_eight",
    "models.deployments.opt_6_7b.model=opt-125m",
    "models.deployments.opt_6_7b.replicas=3",
    "cluster.servers.a40.num_gpus=1",
    "workload=poisson",
    "workload.target_rps=40",
    "workload.max_requests=20",
)


def real_run(folder: Path, *overrides: str) -> Path:
    """Replay a workload, which must succeed; return the folder."""
    assert called(run.main, *SMALL_REAL, *overrides, f"out={folder}") == 0
    return folder


def real_comparison(folder: Path, *overrides: str) -> int:
    """Predict and measure two policies in this process; return the exit code."""
    base = ("policies=[serverless,serverlessllm]", "workers=1", f"out={folder}")
    return called(compare.main, *SMALL_REAL, *base, *overrides)
