"""What a leader knows that follows from its log: controller, roster, counts. No I/O but `post`."""

from collections.abc import Iterable
from dataclasses import dataclass

from sllmcore.commands import Command
from sllmcore.controller import Controller
from sllmcore.events import Event, LoadFinished
from sllmreal.leader.counts import ClusterCounts
from sllmreal.leader.log_records import LogRecord, ReportId
from sllmreal.leader.peers import PeerTable, RoutedOrder, SavedPeerTable


@dataclass(frozen=True, slots=True)
class Effects:
    """What may happen once a record is durable."""

    origin: ReportId | None
    routed: tuple[RoutedOrder, ...]


@dataclass(frozen=True, slots=True)
class SavedState:
    """All of it between two events, to be pickled before the next."""

    controller: Controller
    peer_table: SavedPeerTable
    counts: ClusterCounts
    num_events: int


class LeaderState:
    """Changes by events alone: whoever hears the same ones in the same order has the same state."""

    def __init__(self, controller: Controller, peer_table: PeerTable) -> None:
        self.controller = controller
        self.peer_table = peer_table
        self.counts = ClusterCounts()
        self.num_events = 0

    def handle(
        self, event: Event, now_s: float, record: LogRecord
    ) -> tuple[Effects, list[Command]]:
        """Hear of an event. `record` says whence it comes; its line does not matter."""
        self.num_events += 1
        self.peer_table.note_event(event, record)
        instances = self.controller.cluster.instances
        loading = instances.get(event.instance_id) if isinstance(event, LoadFinished) else None
        commands = self.controller.handle(event, now_s)
        self.counts.note(event, loading)
        routed = tuple(self.peer_table.note_commands(commands))
        self.peer_table.note_end(event, self.controller.cluster.request_states)
        return Effects(record.origin, routed), commands

    def carry_out(self, effects: Effects) -> None:
        """Its record is durable."""
        for peer, order in effects.routed:
            self.peer_table.send(peer, order)
        if effects.origin is not None:
            self.peer_table.note_durable(effects.origin)

    def saved(self, pending: Iterable[Effects]) -> SavedState:
        """The state, as it will be when what is `pending` has been carried out."""
        routed = [one for effects in pending for one in effects.routed]
        return SavedState(
            self.controller, self.peer_table.saved(routed), self.counts, self.num_events
        )

    def restore(self, saved: SavedState) -> None:
        """Be as another was."""
        self.controller = saved.controller
        self.peer_table.restore(saved.peer_table)
        self.counts = saved.counts
        self.num_events = saved.num_events
