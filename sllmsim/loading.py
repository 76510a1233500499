"""Loads as they really go: phases, turns on the I/O path, bytes over shared links."""

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
    """One load from its command to its end."""

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
        self.helpers = helpers  # that fetch a part each
        self.phases = phases
        self.issued_at_s = now_s
        self.over = False  # but the controller has not heard of it
        self.prepared_at_s: float | None = None  # end of the phases before the transfer
        self.turn_at_s: float | None = None
        self.moved_at_s: float | None = None
        self.source = REMOTE
        self.source_bytes = 0
        self.stages: list[tuple[LoadPart, ...]] = []
        self.rest: LoadPart | None = None  # of a split load, to follow it
        self.transfers: dict[Transfer, None] = {}
        self.timer: Timeout | None = None


class Loading:
    """Carries out `LaunchInstance`.

    Args:
        on_ready: Gets the `LoadFinished` of each load that succeeds.
        retime: Called with an instance and over how many servers it runs from now on.
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
        self._jobs: dict[str, _SimLoad] = {}  # by instance id
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
        """Start the phases that come before the bytes; queue for the I/O path."""
        phases = self._phases.draw(self._rng)
        job = _SimLoad(command, checkpoint, server, helpers, phases, self._clock.now)
        self._jobs[command.instance_id] = job
        if helpers:
            self.splits.begin(command.instance_id, server, helpers)
        server.tiers.promise(
            command.instance_id, checkpoint.model, checkpoint.size_bytes, command.cache_in
        )
        self._turns.join(command.instance_id, command.after)
        before_s = job.phases.before_s
        if before_s > 0:
            job.timer = self._clock.call_in(before_s, lambda _: self._prepared(job))
        else:
            self._prepared(job)

    def cancel(self, instance_id: str) -> bool:
        """Break a load off; its room and its turn go to others. False: there is none."""
        self.splits.end(instance_id)
        job = self._jobs.pop(instance_id, None)
        if job is None:
            return False
        if job.timer is not None:
            self._clock.cancel(job.timer)
        for transfer in list(job.transfers):
            self._links.stop(transfer)
        job.server.tiers.end(instance_id, acknowledged=False)
        self._leave_queue(instance_id)
        self.splits.go_on()
        return True

    def told(self, instance_id: str) -> None:
        """The controller hears that a load has finished: its bytes stay where they are cached."""
        job = self._jobs.pop(instance_id, None)
        if job is not None:
            job.server.tiers.fill(instance_id)
            job.server.tiers.end(instance_id, acknowledged=True)

    def lose(self, instance_id: str) -> None:
        """The instance is gone: a load under way with it, but not what one that was over cached."""
        job = self._jobs.get(instance_id)
        if job is not None and job.over:
            self.splits.end(instance_id)
            self.told(instance_id)
        else:
            self.cancel(instance_id)

    def loads(self, instance_id: str) -> bool:
        """Whether an instance is loading still."""
        job = self._jobs.get(instance_id)
        return job is not None and not job.over

    def under_way(self, server_id: str) -> list[str]:
        """Instances that are loading on a server."""
        jobs = self._jobs.items()
        return [i for i, job in jobs if job.server.id == server_id and not job.over]

    def _prepared(self, job: _SimLoad) -> None:
        job.prepared_at_s = self._clock.now
        job.timer = None
        if self._turns.has_come(job.command.instance_id):
            self._transfer(job)

    def _leave_queue(self, instance_id: str) -> None:
        """Let the loads whose turn comes begin their transfers, if they are prepared."""
        for follower_id in self._turns.leave(instance_id):
            follower = self._jobs[follower_id]
            if follower.prepared_at_s is not None:
                self._transfer(follower)

    def _transfer(self, job: _SimLoad) -> None:
        job.turn_at_s = self._clock.now
        plan = self._plans.plan(
            job.checkpoint, job.server, job.command.gpu_indices, job.command.cache_in, job.helpers
        )
        job.source, job.source_bytes = plan.source, plan.source_bytes
        job.stages, job.rest = list(plan.stages), plan.rest
        self._next_stage(job)

    def _next_stage(self, job: _SimLoad) -> None:
        if not job.stages:
            self._transferred(job)
            return
        for part in job.stages.pop(0):
            self._send(job, part)

    def _send(self, job: _SimLoad, part: LoadPart) -> None:
        def arrived() -> None:
            del job.transfers[transfer]
            if not job.transfers:
                self._next_stage(job)
            self.splits.go_on()

        self.splits.make_way(part.hops)
        transfer = self._links.start(part.num_bytes, part.hops, arrived, part.limit_bytes_per_s)
        job.transfers[transfer] = None

    def _transferred(self, job: _SimLoad) -> None:
        assert job.prepared_at_s is not None
        now_s = job.moved_at_s = self._clock.now
        if job.rest is not None:
            self.splits.join(job.command.instance_id, job.rest)
        elif job.helpers:
            self.splits.whole(job.command.instance_id)
        self._leave_queue(job.command.instance_id)
        init_s = job.prepared_at_s + job.phases.overlapped_s - now_s
        rest_s = max(0.0, init_s) + job.phases.after_s
        if rest_s > 0:
            job.timer = self._clock.call_in(rest_s, lambda _: self._ready(job))
        else:
            self._ready(job)

    def _ready(self, job: _SimLoad) -> None:
        prepared_at_s, turn_at_s, moved_at_s = job.prepared_at_s, job.turn_at_s, job.moved_at_s
        assert prepared_at_s is not None and turn_at_s is not None and moved_at_s is not None
        job.over = True
        rest_s = startup_s(
            issued_at_s=job.issued_at_s,
            prepared_at_s=prepared_at_s,
            turn_at_s=turn_at_s,
            moved_at_s=moved_at_s,
            ready_at_s=self._clock.now,
        )
        self._on_ready(
            LoadFinished(
                job.command.instance_id,
                job.source,
                job.source_bytes,
                moved_at_s - turn_at_s,
                rest_s,
            )
        )
