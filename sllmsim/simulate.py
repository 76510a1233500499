"""The entry point of the simulator: run a policy on a simulated cluster and a workload."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from sllmcore.build import PolicySettings, build_controller
from sllmcore.commands import Command
from sllmcore.controller import Controller
from sllmcore.events import Event
from sllmcore.metrics import Recorder, Summary
from sllmcore.workload import WorkloadRequest
from sllmsim.cluster import SimCluster
from sllmsim.control_link import Sink
from sllmsim.fault_player import FaultPlayer
from sllmsim.faults import ControllerCrash
from sllmsim.setup import SimSetup


@dataclass(frozen=True, slots=True)
class SimResult:
    """The results of a simulation.

    Attributes:
        bytes_by_link: Bytes that each link carried, by its name.
        num_events: Events that the controller handled.
    """

    summary: Summary
    recorder: Recorder
    bytes_by_link: dict[str, float]
    num_events: int


class _EventLog:
    """The events that a controller handled, from which it is rebuilt after a crash."""

    def __init__(self, policy: PolicySettings, seed: int) -> None:
        self._policy = policy
        self._seed = seed
        self._events: list[tuple[float, Event]] = []

    def observe(self, now_s: float, event: Event, commands: Sequence[Command]) -> None:
        self._events.append((now_s, event))

    def rebuild(self) -> Controller:
        controller = build_controller(self._policy, policy_chance(self._seed))
        for now_s, event in self._events:
            controller.handle(event, now_s)
        return controller


def policy_chance(seed: int) -> Random:
    """Return the random numbers that a policy draws, equal in a run and in its replay."""
    return Random(f"{seed}/policy")  # noqa: S311 - a policy's draws, not a secret


def simulate(
    policy: PolicySettings,
    setup: SimSetup,
    workload: Iterable[WorkloadRequest],
    seed: int = 0,
    sinks: Sequence[Sink] = (),
) -> SimResult:
    """Run a workload on a simulated cluster under a policy, until all requests have ended.

    Args:
        workload: Requests in order of arrival.
        seed: Seed of the policy's random choices.
        sinks: Called with each journal entry, besides the recorder.

    Raises:
        UsageError: The policy is unknown.
    """
    recorder = Recorder()
    all_sinks: list[Sink] = [recorder.observe, *sinks]
    rebuild = None
    if any(isinstance(fault, ControllerCrash) for fault in setup.faults):
        log = _EventLog(policy, seed)
        all_sinks.append(log.observe)
        rebuild = log.rebuild
    controller = build_controller(policy, policy_chance(seed))
    cluster = SimCluster(
        controller=controller, setup=setup, workload=workload, sinks=all_sinks, rebuild=rebuild
    )
    FaultPlayer(cluster, setup.faults)
    cluster.run()
    summary = recorder.close(cluster.control.last_event_at_s)
    bytes_by_link = {link.name: link.bytes_moved for link in cluster.all_links()}
    return SimResult(summary, recorder, bytes_by_link, cluster.control.num_events)
