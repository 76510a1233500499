"""The state of a leader that follows from its log: controller, peer table, counts.

Its only I/O is to post messages on the channels of peers.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sllmcore.commands import Command
from sllmcore.controller import Controller
from sllmcore.events import Event, LoadFailed, LoadFinished
from sllmreal.leader.counts import ClusterCounts
from sllmreal.leader.log_records import LogRecord, ReportId
from sllmreal.leader.peers import PeerTable, RoutedOrder, SavedPeerTable
from sllmreal.leader.problems import RecentProblems


@dataclass(frozen=True, slots=True)
class Effects:
    """The effects of a record, which may happen once it is durable."""

    origin: ReportId | None
    routed: tuple[RoutedOrder, ...]


@dataclass(frozen=True, slots=True)
class SavedState:
    """The state between two events; it shares objects with the original, so pickle it at once."""

    controller: Controller
    peer_table: SavedPeerTable
    counts: ClusterCounts
    problems: RecentProblems
    num_events: int


class LeaderState:
    """The state of a leader. Events alone change it, so equal events lead to equal states."""

    def __init__(self, controller: Controller, peer_table: PeerTable) -> None:
        self.controller = controller
        self.peer_table = peer_table
        self.counts = ClusterCounts()
        self.problems = RecentProblems()
        self.num_events = 0

    def handle(
        self, event: Event, now_s: float, record: LogRecord
    ) -> tuple[Effects, list[Command]]:
        """Handle an event; return its effects and commands. `record.line` is not used."""
        self.num_events += 1
        self.peer_table.note_event(event, record)
        instances = self.controller.cluster.instances
        loading = None
        if isinstance(event, LoadFinished | LoadFailed):
            loading = instances.get(event.instance_id)
        waited = tuple(loading.requests) if loading and isinstance(event, LoadFailed) else ()
        self.problems.note_event(event, now_s, self.controller.cluster)
        commands = self.controller.handle(event, now_s)
        self.problems.note_commands(commands, now_s)
        self.counts.note(event, loading)
        routed = tuple(self.peer_table.note_commands(commands, waited))
        self.peer_table.note_end(event, self.controller.cluster.request_states)
        return Effects(record.origin, routed), commands

    def carry_out(self, effects: Effects) -> None:
        """Carry out the effects of a record that is durable."""
        for peer, order in effects.routed:
            self.peer_table.send(peer, order)
        if effects.origin is not None:
            self.peer_table.note_durable(effects.origin)

    def saved(self, pending: Iterable[Effects]) -> SavedState:
        """Return the state as it will be when the `pending` effects have been carried out."""
        routed = [one for effects in pending for one in effects.routed]
        return SavedState(
            controller=self.controller,
            peer_table=self.peer_table.saved(routed),
            counts=self.counts,
            problems=self.problems,
            num_events=self.num_events,
        )

    def restore(self, saved: SavedState) -> None:
        """Take over a saved state."""
        self.controller = saved.controller
        self.peer_table.restore(saved.peer_table)
        self.counts = saved.counts
        self.problems = saved.problems
        self.num_events = saved.num_events
