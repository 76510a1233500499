"""A simulation that is over, with what it was made from: what measures look at."""

from dataclasses import dataclass

from experiments.config.run_config import RunConfig
from experiments.simulation.setup import policy_settings, sim_setup
from sllmcore.build import PolicySettings
from sllmcore.workload import Job
from sllmsim.setup import SimSetup
from sllmsim.simulate import SimResult, simulate
from traces.account import Account
from traces.workload import build_jobs


@dataclass(frozen=True, slots=True)
class Played:
    """One run."""

    policy: PolicySettings
    setup: SimSetup
    jobs: tuple[Job, ...]
    result: SimResult


def played(config: RunConfig) -> Played:
    """Simulate."""
    setup = sim_setup(config)
    policy = policy_settings(config, setup)
    jobs = tuple(build_jobs(config.workload, config.models.names, config.seed, Account()))
    return Played(policy, setup, jobs, simulate(policy, setup, jobs, config.seed))
