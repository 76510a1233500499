"""The tiers of a real server: a pool of memory, copies on the SSD, and the models' sources.

The pool has the bytes that count as resident in DRAM, and the weights of every instance: on a
server that computes on the CPU, an engine's tensors are views of the pool. Its size is therefore
that of the DRAM tier and of the GPUs together. The `TierLedger` counts at once; bytes that do not
count are trimmed when no instance uses them.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sllmcore.errors import SllmError, UsageError
from sllmcore.tier_ledger import TierLedger
from sllmcore.types import DRAM, SSD, Residency, ServerSpec, StorageTier
from sllmreal.checkpoint.errors import StorageError
from sllmreal.control.deployment import ModelDeployment
from sllmreal.loader.errors import LoadCancelledError
from sllmreal.loader.pipeline import Cancellation
from sllmreal.loader.plan import DEFAULT_CHUNK_BYTES
from sllmreal.loader.pool import ChunkPool
from sllmreal.loader.transfer import DEFAULT_OPTIONS, LoadOptions
from sllmreal.worker.pool_tier import PoolTier
from sllmreal.worker.remote_source import opened_origin
from sllmreal.worker.ssd import SsdDirectory
from sllmreal.worker.ssd_copy import SsdCopy
from sllmreal.worker.storage import LoadResult

_ROUNDING_CHUNKS = 16  # a partition's last chunk is seldom full
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Use:
    """The use of the pool by an instance, from `begin` to `release`."""

    model: ModelDeployment
    cache_in: tuple[StorageTier, ...]
    cancellation: Cancellation = field(default_factory=Cancellation)
    identity: str | None = None  # of the weights; None: not known yet
    ended: bool = False  # the controller has stopped the instance


class TierStorage:
    """A `Storage` of bytes.

    Args:
        server: Has the capacity of each tier.
        directory: The SSD tier; used by this worker only.
        chunk_bytes: The unit of memory, of reads and of partial residency.
        options: Threads of a load.

    Raises:
        StorageError: There is too little memory, or the disk fails.
        UsageError: The directory is in use, or has other files.
    """

    def __init__(
        self,
        server: ServerSpec,
        directory: Path,
        *,
        chunk_bytes: int = DEFAULT_CHUNK_BYTES,
        options: LoadOptions = DEFAULT_OPTIONS,
    ) -> None:
        self._ssd = SsdDirectory(directory, chunk_bytes)
        for model in _surplus(self._ssd.copies, server.ssd_bytes):
            self._ssd.remove(model)
        found = [
            Residency(SSD, model, copy.manifest.resident_bytes)
            for model, copy in self._ssd.copies.items()
        ]
        self._ledger = TierLedger(
            server.id, {DRAM: server.dram_bytes, SSD: server.ssd_bytes}, found
        )
        pool_bytes = server.dram_bytes + server.num_gpus * server.gpu_memory_bytes
        try:
            pool = ChunkPool(pool_bytes + _ROUNDING_CHUNKS * chunk_bytes, chunk_bytes)
        except SllmError:
            self._ssd.close()
            raise
        self._memory = PoolTier(pool, options)
        self._uses: dict[str, _Use] = {}  # by instance
        self._loading: dict[str, asyncio.Future[None]] = {}  # by instance; done at the load's end
        self._ending: set[asyncio.Future[None]] = set()
        self._surplus: set[str] = set()  # identities to trim: without a model, or still in use
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by model or identity
        threads = 2 * server.num_gpus + 4  # loads under way, loads being cancelled, trims
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="tiers")

    @property
    def pool(self) -> ChunkPool:
        """The memory, for engines that map it."""
        return self._memory.pool

    def begin(
        self, instance_id: str, model: ModelDeployment, cache_in: tuple[StorageTier, ...]
    ) -> None:
        """See `Storage`; so for all methods."""
        self._ledger.promise(instance_id, model.name, model.size_bytes, cache_in)
        self._uses[instance_id] = _Use(model, cache_in)

    async def load(self, instance_id: str) -> LoadResult:
        use = self._uses.get(instance_id)
        if use is None or use.ended:
            raise UsageError(f"{instance_id} has no load that has begun and not ended")
        ended = self._loading[instance_id] = asyncio.get_running_loop().create_future()
        try:
            await self.settled()
            async with self._locks[use.model.name]:
                result = await self._load(use)
                if use.ended:
                    raise LoadCancelledError(f"{instance_id} was stopped")
                self._ledger.fill(instance_id)
                return result
        finally:
            del self._loading[instance_id]
            ended.set_result(None)
            self._ending.discard(ended)
            self._trim(use.model.name)

    def end(self, instance_id: str, *, acknowledged: bool) -> None:
        self._ledger.end(instance_id, acknowledged=acknowledged)
        use = self._uses.get(instance_id)
        if use is None:
            return
        use.ended = True
        if instance_id in self._loading:
            use.cancellation.cancel()
            self._ending.add(self._loading[instance_id])
        self._trim(use.model.name)

    def release(self, instance_id: str) -> None:
        use = self._uses.pop(instance_id, None)
        if use is not None:
            self._trim(use.model.name)

    def evict(self, tier: StorageTier, model: str, keep_bytes: int) -> None:
        self._ledger.evict(tier, model, keep_bytes)
        self._trim(model)

    def resident(self) -> tuple[Residency, ...]:
        return self._ledger.resident()

    async def settled(self) -> None:
        self._trim_memory(self._surplus)
        while self._ending:
            await asyncio.wait(list(self._ending))

    async def close(self) -> None:
        for instance_id in list(self._uses):
            self.end(instance_id, acknowledged=True)
            self.release(instance_id)
        await self.settled()
        self._threads.shutdown()
        self._memory.pool.close()
        self._ssd.close()

    # Loading. Blocking work runs in a thread, under the locks of the model and of its identity.

    async def _load(self, use: _Use) -> LoadResult:
        copy = await self._in_thread(use, lambda: self._copy(use.model))
        use.identity = copy.layout.identity
        keep_bytes = self._ledger.held_bytes(SSD, use.model.name)
        if SSD in use.cache_in:
            keep_bytes = copy.layout.size_bytes
        async with self._locks[f"identity {use.identity}"]:
            return await self._in_thread(use, lambda: self._filled(use, copy, keep_bytes))

    async def _in_thread(self, use: _Use, work: Callable[[], T]) -> T:
        """Run `work` in a thread. A cancellation cancels the load and waits for the thread."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(running)
        except OSError as error:
            raise StorageError(f"{use.model.name}: {error}") from error
        except asyncio.CancelledError:
            use.cancellation.cancel()
            while not running.done():
                await asyncio.wait([running])
            running.exception()  # retrieved, so that it is not logged: the cancellation is raised
            raise

    def _copy(self, model: ModelDeployment) -> SsdCopy:
        """Return the model's directory on the SSD. Create or replace it for a new deployment."""
        copy = self._ssd.copies.get(model.name)
        if copy is not None:
            manifest = copy.manifest
            if (manifest.source, manifest.created_at_s) == (model.source, model.created_at_s):
                return copy
        with opened_origin(model.source) as origin:
            if origin.layout.size_bytes != model.size_bytes:
                raise UsageError(
                    f"{model.name} was deployed with {model.size_bytes} bytes, "
                    f"{model.source} has {origin.layout.size_bytes}: deploy it again"
                )
            if copy is not None and copy.layout.identity == origin.layout.identity:
                copy.redeploy(model.source, model.created_at_s)
                return copy
            if copy is not None:
                self._surplus |= {copy.layout.identity}
            return self._ssd.create(model, origin)

    def _filled(self, use: _Use, copy: SsdCopy, keep_bytes: int) -> LoadResult:
        result = self._memory.fill(copy, keep_bytes, use.cancellation)
        copy.count(copy.stored_bytes())
        return result

    # Trimming: bytes follow the ledger.

    def _trim(self, model: str) -> None:
        """Drop the bytes of a model that no longer count. A load of it under way does so itself."""
        copy = self._ssd.copies.get(model)
        self._trim_memory({copy.layout.identity, *self._surplus} if copy else self._surplus)
        if any(self._uses[i].model.name == model for i in self._loading if i in self._uses):
            return
        task = asyncio.ensure_future(self._trim_ssd(model))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _trim_memory(self, identities: set[str]) -> None:
        """Trim the weights that no instance uses to the bytes that count."""
        used = {use.identity for use in self._uses.values()}
        copies = list(self._ssd.copies.items())
        for identity in identities - used:
            models = [model for model, copy in copies if copy.layout.identity == identity]
            counted = (self._ledger.held_bytes(DRAM, model) for model in models)
            if self._memory.trim(identity, max(counted, default=0)):
                self._surplus = self._surplus - {identity}
            else:
                self._surplus = self._surplus | {identity}

    async def _trim_ssd(self, model: str) -> None:
        async with self._locks[model]:
            copy = self._ssd.copies.get(model)
            if copy is None:
                return
            held_bytes = self._ledger.held_bytes(SSD, model)
            used = any(use.model.name == model for use in self._uses.values())
            loop = asyncio.get_running_loop()
            if used or held_bytes or self._ledger.held_bytes(DRAM, model):
                await loop.run_in_executor(self._threads, copy.trim, held_bytes)
            else:
                await loop.run_in_executor(self._threads, self._ssd.remove, model)


def _surplus(copies: Mapping[str, SsdCopy], capacity_bytes: int) -> list[str]:
    """Return the models that no longer fit the tier, least recently stored first."""
    surplus_bytes = sum(copy.manifest.resident_bytes for copy in copies.values()) - capacity_bytes
    surplus = []
    for copy in sorted(copies.values(), key=lambda copy: copy.changed_at_s()):
        if surplus_bytes > 0:
            surplus.append(copy.manifest.model)
            surplus_bytes -= copy.manifest.resident_bytes
    return surplus
