"""The loads of launched instances: phases, turns on the I/O path, bytes over shared links."""

from collections.abc import Callable
from random import Random

from simpy.events import Timeout

from sllmcore.cold_start import startup_s
from sllmcore.commands import LaunchInstance
from sllmcore.events import LoadFinished
from sllmcore.load_turns import LoadTurns
from sllmcore.types import REMOTE, Checkpoint
from sllmsim.clock import SimClock
from sllmsim.links import Link, Links, Transfer
from sllmsim.load_plan import LoadPart, SimLoadPlans
from sllmsim.phases import ColdStartPhases
from sllmsim.server import SimServer
from sllmsim.setup import SimSetup
from sllmsim.splitting import Splits


class _SimLoad:
    """The load of an instance, from its launch until the controller has acknowledged its end."""

    __slots__ = (
        "checkpoint",
        "command",
        "helpers",
        "issued_at_s",
        "moved_at_s",
        "over",
        "phases",
        "prepared_at_s",
        "rest",
        "server",
        "source",
        "source_bytes",
        "stages",
        "timer",
        "transfers",
        "turn_at_s",
    )

    def __init__(
        self,
        command: LaunchInstance,
        checkpoint: Checkpoint,
        server: SimServer,
        helpers: tuple[SimServer, ...],
        phases: ColdStartPhases,
        now_s: float,
    ) -> None:
        self.command = command
        self.checkpoint = checkpoint
        self.server = server
        self.helpers = helpers  # each fetches a part
        self.phases = phases
        self.issued_at_s = now_s
        self.over = False  # finished, and the controller has not acknowledged that
        self.prepared_at_s: float | None = None  # end of the phases before the transfer
        self.turn_at_s: float | None = None
        self.moved_at_s: float | None = None
        self.source = REMOTE
        self.source_bytes = 0
        self.stages: list[tuple[LoadPart, ...]] = []
        self.rest: LoadPart | None = None  # of a split load, fetched after its parts
        self.transfers: dict[Transfer, None] = {}
        self.timer: Timeout | None = None


class Loading:
    """The loads under way: executes `LaunchInstance`.

    Args:
        on_ready: Called with the `LoadFinished` of each load that succeeds.
        retime: Called with an instance id and the number of servers it runs over from then on.
    """

    def __init__(
        self,
        clock: SimClock,
        links: Links,
        setup: SimSetup,
        on_ready: Callable[[LoadFinished], None],
        retime: Callable[[str, int], None],
    ) -> None:
        self._clock = clock
        self._links = links
        self._phases = setup.phases
        self._rng = Random(f"{setup.seed}/phases")  # noqa: S311 - a simulation, not a secret
        self._on_ready = on_ready
        self._loads: dict[str, _SimLoad] = {}  # by instance id
        self._turns = LoadTurns()
        self.splits = Splits(links, retime)
        bytes_per_s = setup.storage_bytes_per_s
        self.storage = None if bytes_per_s is None else Link("storage", bytes_per_s)
        self._plans = SimLoadPlans(setup.loader, self.storage)

    def begin(
        self,
        command: LaunchInstance,
        checkpoint: Checkpoint,
        server: SimServer,
        helpers: tuple[SimServer, ...] = (),
    ) -> None:
        """Start the phases before the transfer, and queue for the I/O path.

        Raises:
            ControlError: A tier has no room for the bytes that are to stay in it.
        """
        phases = self._phases.draw(self._rng)
        load = _SimLoad(
            command=command,
            checkpoint=checkpoint,
            server=server,
            helpers=helpers,
            phases=phases,
            now_s=self._clock.now,
        )
        self._loads[command.instance_id] = load
        if helpers:
            self.splits.begin(command.instance_id, server, helpers)
        server.tiers.promise(
            command.instance_id, checkpoint.model, checkpoint.size_bytes, command.cache_in
        )
        self._turns.join(command.instance_id, command.after)
        before_s = load.phases.before_s
        if before_s > 0:
            load.timer = self._clock.call_in(before_s, lambda _: self._prepared(load))
        else:
            self._prepared(load)

    def cancel(self, instance_id: str) -> bool:
        """Cancel a load, and release its room and its turn. Return False if there is no load."""
        self.splits.end(instance_id)
        load = self._loads.pop(instance_id, None)
        if load is None:
            return False
        if load.timer is not None:
            self._clock.cancel(load.timer)
        for transfer in list(load.transfers):
            self._links.stop(transfer)
        load.server.tiers.end(instance_id, acknowledged=False)
        self._leave_queue(instance_id)
        self.splits.go_on()
        return True

    def acknowledge_load(self, instance_id: str) -> None:
        """Count the bytes of a load in its tiers: the controller knows that it has finished."""
        load = self._loads.pop(instance_id, None)
        if load is not None:
            load.server.tiers.fill(instance_id)
            load.server.tiers.end(instance_id, acknowledged=True)

    def lose(self, instance_id: str) -> None:
        """End the load of a lost instance. A load that was over leaves its bytes in its tiers."""
        load = self._loads.get(instance_id)
        if load is not None and load.over:
            self.splits.end(instance_id)
            self.acknowledge_load(instance_id)
        else:
            self.cancel(instance_id)

    def is_loading(self, instance_id: str) -> bool:
        """Return True if the load of an instance is under way."""
        load = self._loads.get(instance_id)
        return load is not None and not load.over

    def loading_on(self, server_id: str) -> list[str]:
        """Return the instances that are loading on a server."""
        return [
            i for i, load in self._loads.items() if load.server.id == server_id and not load.over
        ]

    def _prepared(self, load: _SimLoad) -> None:
        load.prepared_at_s = self._clock.now
        load.timer = None
        if self._turns.has_come(load.command.instance_id):
            self._transfer(load)

    def _leave_queue(self, instance_id: str) -> None:
        """Give up a load's turn; the next loads begin their transfers if they are prepared."""
        for follower_id in self._turns.leave(instance_id):
            follower = self._loads[follower_id]
            if follower.prepared_at_s is not None:
                self._transfer(follower)

    def _transfer(self, load: _SimLoad) -> None:
        load.turn_at_s = self._clock.now
        plan = self._plans.plan(
            load.checkpoint,
            load.server,
            load.command.gpu_indices,
            load.command.cache_in,
            load.helpers,
        )
        load.source, load.source_bytes = plan.source, plan.source_bytes
        load.stages, load.rest = list(plan.stages), plan.rest
        self._next_stage(load)

    def _next_stage(self, load: _SimLoad) -> None:
        if not load.stages:
            self._transferred(load)
            return
        for part in load.stages.pop(0):
            self._send(load, part)

    def _send(self, load: _SimLoad, part: LoadPart) -> None:
        def arrived() -> None:
            del load.transfers[transfer]
            if not load.transfers:
                self._next_stage(load)
            self.splits.go_on()

        self.splits.make_way(part.hops)
        transfer = self._links.start(part.num_bytes, part.hops, arrived, part.limit_bytes_per_s)
        load.transfers[transfer] = None

    def _transferred(self, load: _SimLoad) -> None:
        assert load.prepared_at_s is not None
        now_s = load.moved_at_s = self._clock.now
        if load.rest is not None:
            self.splits.join(load.command.instance_id, load.rest)
        elif load.helpers:
            self.splits.whole(load.command.instance_id)
        self._leave_queue(load.command.instance_id)
        init_s = load.prepared_at_s + load.phases.overlapped_s - now_s
        rest_s = max(0.0, init_s) + load.phases.after_s
        if rest_s > 0:
            load.timer = self._clock.call_in(rest_s, lambda _: self._ready(load))
        else:
            self._ready(load)

    def _ready(self, load: _SimLoad) -> None:
        prepared_at_s, turn_at_s, moved_at_s = load.prepared_at_s, load.turn_at_s, load.moved_at_s
        assert prepared_at_s is not None and turn_at_s is not None and moved_at_s is not None
        load.over = True
        rest_s = startup_s(
            issued_at_s=load.issued_at_s,
            prepared_at_s=prepared_at_s,
            turn_at_s=turn_at_s,
            moved_at_s=moved_at_s,
            ready_at_s=self._clock.now,
        )
        self._on_ready(
            LoadFinished(
                instance_id=load.command.instance_id,
                source=load.source,
                num_bytes=load.source_bytes,
                transfer_s=moved_at_s - turn_at_s,
                startup_s=rest_s,
            )
        )
