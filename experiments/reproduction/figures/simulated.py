"""A finished simulation together with its inputs: the argument of every measure."""

from dataclasses import dataclass

from experiments.config.run_config import RunConfig
from experiments.simulation.setup import policy_settings, sim_setup
from sllmcore.build import PolicySettings
from sllmcore.workload import WorkloadRequest
from sllmsim.setup import SimSetup
from sllmsim.simulate import SimResult, simulate
from traces.account import Account
from traces.workload import workload_requests


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """A simulation's policy, hardware and requests, and its result."""

    policy: PolicySettings
    setup: SimSetup
    requests: tuple[WorkloadRequest, ...]
    result: SimResult


def simulated(config: RunConfig) -> SimulatedRun:
    """Simulate a run, without writing any file."""
    setup = sim_setup(config)
    policy = policy_settings(config, setup)
    requests = tuple(
        workload_requests(config.workload, config.models.names, config.seed, Account())
    )
    return SimulatedRun(policy, setup, requests, simulate(policy, setup, requests, config.seed))
