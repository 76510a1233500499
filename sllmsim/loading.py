"""Loads as they really go: phases, turns on the I/O path, bytes over shared links."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from simpy.events import Timeout

from sllmcore.commands import Load
from sllmcore.events import LoadFinished
from sllmcore.types import DRAM, REMOTE, SSD, Checkpoint, StorageTier
from sllmsim.clock import Clock
from sllmsim.links import Hop, Link, Links, Transfer
from sllmsim.phases import ColdStartPhases
from sllmsim.server import SimServer
from sllmsim.setup import SimSetup


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes of one load that come the same way, and how fast its loader takes them."""

    num_bytes: int
    hops: tuple[Hop, ...]
    limit_bytes_per_s: float


class _Job:
    """One load from its command to its end."""

    __slots__ = (
        "ahead",
        "before_ended_at_s",
        "checkpoint",
        "command",
        "filling",
        "followers",
        "issued_at_s",
        "over",
        "phases",
        "prepared",
        "server",
        "source",
        "source_bytes",
        "stages",
        "timer",
        "transfer_s",
        "transfers",
        "turn_at_s",
    )

    def __init__(
        self,
        command: Load,
        checkpoint: Checkpoint,
        server: SimServer,
        phases: ColdStartPhases,
        now_s: float,
    ) -> None:
        self.command = command
        self.checkpoint = checkpoint
        self.server = server
        self.phases = phases
        self.issued_at_s = now_s
        self.filling: tuple[StorageTier, ...] = ()
        self.followers: list[_Job] = []  # whose turn comes when these bytes have moved
        self.over = False  # but the controller has not heard of it
        self.prepared = False  # the phases before the transfer are over
        self.ahead: _Job | None = None  # whose bytes have to move first
        self.before_ended_at_s = now_s
        self.turn_at_s: float | None = None
        self.transfer_s: float | None = None
        self.source = REMOTE
        self.source_bytes = 0
        self.stages: list[list[_Part]] = []
        self.transfers: dict[Transfer, None] = {}
        self.timer: Timeout | None = None

    def note_source(self, from_dram: int, from_ssd: int, from_remote: int) -> None:
        """The farthest tier that bytes come from, and how many."""
        if from_remote:
            self.source, self.source_bytes = REMOTE, from_remote
        elif from_ssd:
            self.source, self.source_bytes = SSD, from_ssd
        else:
            self.source, self.source_bytes = DRAM, from_dram


class Loading:
    """Carries out `Load`. `on_ready` gets the `LoadFinished` of each load that succeeds."""

    def __init__(
        self,
        clock: Clock,
        links: Links,
        setup: SimSetup,
        on_ready: Callable[[LoadFinished], None],
    ) -> None:
        self._clock = clock
        self._links = links
        self._loader = setup.loader
        self._phases = setup.phases
        self._rng = Random(f"{setup.seed}/phases")  # noqa: S311 - a simulation, not a secret
        self._on_ready = on_ready
        self._jobs: dict[str, _Job] = {}  # by instance id
        bytes_per_s = setup.storage_bytes_per_s
        self.storage = None if bytes_per_s is None else Link("storage", bytes_per_s)

    def begin(self, command: Load, checkpoint: Checkpoint, server: SimServer) -> None:
        """Start the phases that come before the bytes; queue for the I/O path."""
        job = _Job(command, checkpoint, server, self._phases.draw(self._rng), self._clock.now)
        self._jobs[command.instance_id] = job
        self._promise(job)
        ahead = self._jobs.get(command.after) if command.after is not None else None
        if ahead is not None and ahead.transfer_s is None:
            ahead.followers.append(job)
            job.ahead = ahead
        before_s = job.phases.before_s
        if before_s > 0:
            job.timer = self._clock.call_in(before_s, lambda _: self._prepared(job))
        else:
            self._prepared(job)

    def cancel(self, instance_id: str) -> bool:
        """Break a load off; its room and its turn go to others. False: there is none."""
        job = self._jobs.pop(instance_id, None)
        if job is None:
            return False
        if job.timer is not None:
            self._clock.cancel(job.timer)
        for transfer in list(job.transfers):
            self._links.stop(transfer)
        for tier in job.filling:
            job.server.release(tier, job.checkpoint.model)
        if job.ahead is None:
            self._next_turn(job)
        else:
            self._step_aside(job, job.ahead)
        return True

    def told(self, instance_id: str) -> None:
        """The controller hears that a load has finished: its bytes stay where they are cached."""
        job = self._jobs.pop(instance_id, None)
        if job is not None:
            for tier in job.filling:
                job.server.fill(tier, job.checkpoint.model)

    def lose(self, instance_id: str) -> None:
        """The instance is gone: a load under way with it, but not what one that was over cached."""
        job = self._jobs.get(instance_id)
        if job is not None and job.over:
            self.told(instance_id)
        else:
            self.cancel(instance_id)

    def under_way(self, server_id: str) -> list[str]:
        """Instances that are loading on a server."""
        jobs = self._jobs.items()
        return [i for i, job in jobs if job.server.id == server_id and not job.over]

    def _promise(self, job: _Job) -> None:
        model, size_bytes = job.checkpoint.model, job.checkpoint.size_bytes
        for tier in job.command.cache_in:
            missing_bytes = size_bytes - job.server.held_bytes(tier, model)
            job.server.promise(tier, model, missing_bytes)
        job.filling = job.command.cache_in

    def _prepared(self, job: _Job) -> None:
        job.prepared = True
        job.timer = None
        job.before_ended_at_s = self._clock.now
        if job.ahead is None:
            self._transfer(job)

    def _next_turn(self, job: _Job) -> None:
        """The I/O path is free for those behind."""
        followers, job.followers = job.followers, []
        for follower in followers:
            follower.ahead = None
            if follower.prepared:
                self._transfer(follower)

    @staticmethod
    def _step_aside(job: _Job, ahead: _Job) -> None:
        """A load that waits for its turn is gone: those behind it are behind the one ahead."""
        ahead.followers.remove(job)
        ahead.followers += job.followers
        for follower in job.followers:
            follower.ahead = ahead

    def _transfer(self, job: _Job) -> None:
        job.turn_at_s = self._clock.now
        job.stages = self._plan(job)
        self._next_stage(job)

    def _next_stage(self, job: _Job) -> None:
        if not job.stages:
            self._transferred(job)
            return
        for part in job.stages.pop(0):
            self._send(job, part)

    def _send(self, job: _Job, part: _Part) -> None:
        def arrived() -> None:
            del job.transfers[transfer]
            if not job.transfers:
                self._next_stage(job)

        transfer = self._links.start(part.num_bytes, part.hops, arrived, part.limit_bytes_per_s)
        job.transfers[transfer] = None

    def _plan(self, job: _Job) -> list[list[_Part]]:
        """Stages of concurrent transfers; what rests in several tiers comes from all at once."""
        server, loader, hardware = job.server, self._loader, job.server.hardware
        model, size_bytes = job.checkpoint.model, job.checkpoint.size_bytes
        from_dram = min(size_bytes, server.held_bytes(DRAM, model))
        from_ssd = min(size_bytes - from_dram, server.held_bytes(SSD, model))
        from_remote = size_bytes - from_dram - from_ssd
        job.note_source(from_dram, from_ssd, from_remote)
        to_gpus = server.to_gpus(job.command.gpu_indices)
        dram_limit = (
            loader.dram_efficiency * len(job.command.gpu_indices) * hardware.pcie_bytes_per_s
        )
        if from_dram == size_bytes:
            return [[_Part(from_dram, to_gpus, dram_limit)]]
        ssd_limit = min(dram_limit, loader.ssd_efficiency * hardware.ssd_read_bytes_per_s)
        read = (Hop(server.ssd_read), *to_gpus)
        if not from_remote and not from_dram:
            return [[_Part(from_ssd, read, ssd_limit)]]
        nic_limit = loader.remote_efficiency * hardware.nic_bytes_per_s
        fetch = self._fetch_hops(job)
        stages = []
        if from_remote and not loader.pipelined:
            stages.append([_Part(from_remote, fetch, nic_limit)])
            from_ssd, from_remote = from_ssd + from_remote, 0
        last = (
            _Part(from_dram, to_gpus, dram_limit),
            _Part(from_ssd, read, ssd_limit),
            _Part(from_remote, (*fetch, *to_gpus), min(nic_limit, dram_limit)),
        )
        stages.append([part for part in last if part.num_bytes])
        return stages

    def _fetch_hops(self, job: _Job) -> tuple[Hop, ...]:
        """From remote storage to the server, and onto its SSD where the bytes are to stay."""
        storage = () if self.storage is None else (Hop(self.storage),)
        on_ssd = SSD in job.filling or not self._loader.pipelined
        write = (Hop(job.server.ssd_write),) if on_ssd else ()
        return (*storage, Hop(job.server.nic), *write)

    def _transferred(self, job: _Job) -> None:
        assert job.turn_at_s is not None
        now_s = self._clock.now
        job.transfer_s = now_s - job.turn_at_s
        self._next_turn(job)
        init_s = job.before_ended_at_s + job.phases.overlapped_s - now_s
        rest_s = max(0.0, init_s) + job.phases.after_s
        if rest_s > 0:
            job.timer = self._clock.call_in(rest_s, lambda _: self._ready(job))
        else:
            self._ready(job)

    def _ready(self, job: _Job) -> None:
        assert job.turn_at_s is not None and job.transfer_s is not None
        instance_id = job.command.instance_id
        job.over = True
        waited_s = job.turn_at_s - job.before_ended_at_s
        all_s = self._clock.now - job.issued_at_s
        startup_s = max(0.0, all_s - job.transfer_s - waited_s)
        self._on_ready(
            LoadFinished(instance_id, job.source, job.source_bytes, job.transfer_s, startup_s)
        )
