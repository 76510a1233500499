"""Runs of a case in the simulator, checked by all observers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from sllmcore.build import PolicySettings, build_controller
from sllmcore.commands import Command
from sllmcore.controller import Controller
from sllmcore.events import Event
from sllmsim.cluster import SimCluster
from sllmsim.fault_player import FaultPlayer
from tests.laws.cases import Case
from tests.laws.final_state import check_final_state
from tests.laws.missed_starts import check_no_missed_start, decides_repeatably
from tests.laws.observer import Observer

MAX_EVENTS = 20_000  # far more than any case needs


@dataclass(slots=True)
class Log:
    """A sink that keeps all entries."""

    entries: list[tuple[float, Event, tuple[Command, ...]]] = field(default_factory=list)

    def __call__(self, now_s: float, event: Event, commands: Sequence[Command]) -> None:
        self.entries.append((now_s, event, tuple(commands)))
        assert len(self.entries) < MAX_EVENTS, "the run does not terminate"


def fresh(policy: PolicySettings) -> Controller:
    """Return a new controller for a run."""
    return build_controller(policy, Random(7))


def rebuilt(policy: PolicySettings, log: Log) -> Controller:
    """Return a new controller that has handled all events of `log`."""
    controller = fresh(policy)
    for now_s, event, _ in log.entries:
        controller.handle(event, now_s)
    return controller


@dataclass(slots=True)
class Run:
    """A finished simulation."""

    log: Log
    observer: Observer
    cluster: SimCluster


def play(case: Case) -> Run:
    """Run a case; check the laws after every event and the final state."""
    log, observer, checks_starts = Log(), Observer(), decides_repeatably(case)

    def audit(now_s: float, event: Event, commands: Sequence[Command]) -> None:
        cluster.control.controller.audit()
        if checks_starts:
            check_no_missed_start(cluster.control.controller, now_s)

    cluster = SimCluster(
        controller=fresh(case.policy),
        setup=case.setup,
        workload=case.jobs,
        sinks=[log, observer, audit],
        rebuild=lambda: rebuilt(case.policy, log),
    )
    FaultPlayer(cluster, case.setup.faults)
    cluster.run()
    observer.check_over()
    check_final_state(cluster.control.controller, observer)
    return Run(log, observer, cluster)
