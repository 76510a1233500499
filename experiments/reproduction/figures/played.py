"""A simulation that is over, with what it was made from: what measures look at."""

from dataclasses import dataclass

from experiments.config.run_config import RunConfig
from experiments.simulation.setup import policy_settings, sim_setup
from sllmcore.build import PolicySettings
from sllmcore.workload import WorkloadRequest
from sllmsim.setup import SimSetup
from sllmsim.simulate import SimResult, simulate
from traces.account import Account
from traces.workload import build_jobs


@dataclass(frozen=True, slots=True)
class PlayedRun:
    """One run."""

    policy: PolicySettings
    setup: SimSetup
    jobs: tuple[WorkloadRequest, ...]
    result: SimResult


def played(config: RunConfig) -> PlayedRun:
    """Simulate."""
    setup = sim_setup(config)
    policy = policy_settings(config, setup)
    jobs = tuple(build_jobs(config.workload, config.models.names, config.seed, Account()))
    return PlayedRun(policy, setup, jobs, simulate(policy, setup, jobs, config.seed))
