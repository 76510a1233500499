"""Plays a world in the simulator under all observers, and keeps what happened."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from sllmcore.build import PolicySettings, build_controller
from sllmcore.commands import Command
from sllmcore.controller import Controller
from sllmcore.events import Event
from sllmsim.cluster import SimCluster
from sllmsim.fault_player import FaultPlayer
from tests.laws.at_rest import check_at_rest
from tests.laws.observer import Observer
from tests.laws.overlooked import can_be_asked_again, check_nobody_overlooked
from tests.laws.worlds import World

MAX_EVENTS = 20_000  # far more than any of these worlds needs: a run beyond does not terminate


@dataclass(slots=True)
class Log:
    """A sink that keeps everything."""

    entries: list[tuple[float, Event, tuple[Command, ...]]] = field(default_factory=list)

    def __call__(self, now_s: float, event: Event, commands: Sequence[Command]) -> None:
        self.entries.append((now_s, event, tuple(commands)))
        assert len(self.entries) < MAX_EVENTS, "the run does not terminate"


def fresh(policy: PolicySettings) -> Controller:
    """A controller as every run here begins with."""
    return build_controller(policy, Random(7))


def rebuilt(policy: PolicySettings, log: Log) -> Controller:
    """A controller that has been told everything in `log`."""
    controller = fresh(policy)
    for now_s, event, _ in log.entries:
        controller.handle(event, now_s)
    return controller


@dataclass(slots=True)
class Run:
    """A simulation that is over."""

    log: Log
    observer: Observer
    cluster: SimCluster


def play(world: World) -> Run:
    """Run a world; every event is checked against the laws, and so is the state at the end."""
    log, observer, asks = Log(), Observer(), can_be_asked_again(world)

    def audit(now_s: float, event: Event, commands: Sequence[Command]) -> None:
        cluster.control.controller.audit()
        if asks:
            check_nobody_overlooked(cluster.control.controller, now_s)

    cluster = SimCluster(
        fresh(world.policy),
        world.setup,
        world.jobs,
        [log, observer, audit],
        lambda: rebuilt(world.policy, log),
    )
    FaultPlayer(cluster, world.setup.faults)
    cluster.run()
    observer.check_over()
    check_at_rest(cluster.control.controller, observer)
    return Run(log, observer, cluster)
