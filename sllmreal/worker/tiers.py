"""The tiers of a real server: a pool of memory, copies on the SSD, and where models come from.

The pool holds what counts as resident in DRAM and the weights of every instance: on a server that
computes on the CPU, those are views of it, so that it is as large as DRAM tier and GPUs together.
What counts is noted at once (`TierLedger`); the bytes are trimmed to that when nobody uses them.
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
    """An instance that has, or will have, its weights in the pool."""

    model: ModelDeployment
    cache_in: tuple[StorageTier, ...]
    cancellation: Cancellation = field(default_factory=Cancellation)
    identity: str | None = None  # of the weights, once they are known
    ended: bool = False  # the controller has done with it


class TierStorage:
    """A `Storage` of bytes.

    Args:
        server: Sizes of the tiers.
        directory: The SSD tier; of this worker alone.
        chunk_bytes: The unit of memory, of reads and of partial residency.
        options: Threads of a load.

    Raises:
        StorageError: There is not so much memory, or the disk fails.
        UsageError: The directory is in use, or holds other things.
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
        self._loading: dict[str, asyncio.Future[None]] = {}  # by instance, until that has ended
        self._ending: set[asyncio.Future[None]] = set()
        self._surplus: set[str] = set()  # identities that no model has, or whose tensors live on
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # of model, of identity
        threads = 2 * server.num_gpus + 4  # loads under way, loads being cancelled, trims
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="tiers")

    @property
    def pool(self) -> ChunkPool:
        """The memory, for those who map it."""
        return self._memory.pool

    def begin(
        self, instance_id: str, model: ModelDeployment, cache_in: tuple[StorageTier, ...]
    ) -> None:
        self._ledger.promise(instance_id, model.name, model.size_bytes, cache_in)
        self._uses[instance_id] = _Use(model, cache_in)

    async def load(self, instance_id: str) -> LoadResult:
        use = self._uses.get(instance_id)
        if use is None or use.ended:
            raise UsageError(f"no load of {instance_id} has begun, or it has ended")
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

    # Loading. What blocks runs in a thread, under the model's lock and that of its bytes.

    async def _load(self, use: _Use) -> LoadResult:
        copy = await self._in_thread(use, lambda: self._copy(use.model))
        use.identity = copy.layout.identity
        keep_bytes = self._ledger.held_bytes(SSD, use.model.name)
        if SSD in use.cache_in:
            keep_bytes = copy.layout.size_bytes
        async with self._locks[f"identity {use.identity}"]:
            return await self._in_thread(use, lambda: self._filled(use, copy, keep_bytes))

    async def _in_thread(self, use: _Use, work: Callable[[], T]) -> T:
        """Run `work` in a thread; a cancellation cancels the load there and waits for its end."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(running)
        except OSError as error:
            raise StorageError(f"{use.model.name}: {error}") from error
        except asyncio.CancelledError:
            use.cancellation.cancel()
            while not running.done():
                await asyncio.wait([running])
            running.exception()  # retrieved: the cancellation is what the caller hears
            raise

    def _copy(self, model: ModelDeployment) -> SsdCopy:
        """The model's directory, as it was deployed; made, or made anew, if need be."""
        copy = self._ssd.copies.get(model.name)
        if copy is not None:
            manifest = copy.manifest
            if (manifest.source, manifest.created_at_s) == (model.source, model.created_at_s):
                return copy
        with opened_origin(model.source) as origin:
            if origin.layout.size_bytes != model.size_bytes:
                raise UsageError(
                    f"{model.name} was deployed with {model.size_bytes} bytes, "
                    f"{model.source} has {origin.layout.size_bytes}"
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

    # Trimming: bytes follow the marks.

    def _trim(self, model: str) -> None:
        """Drop what does not count any more; a load of the model under way does that at its end."""
        copy = self._ssd.copies.get(model)
        self._trim_memory({copy.layout.identity, *self._surplus} if copy else self._surplus)
        if any(self._uses[i].model.name == model for i in self._loading if i in self._uses):
            return
        task = asyncio.ensure_future(self._trim_ssd(model))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _trim_memory(self, identities: set[str]) -> None:
        """Of weights that no instance uses, keep what counts."""
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
    """Models that no longer fit the tier, those stored longest ago first."""
    surplus_bytes = sum(copy.manifest.resident_bytes for copy in copies.values()) - capacity_bytes
    surplus = []
    for copy in sorted(copies.values(), key=lambda copy: copy.changed_at_s()):
        if surplus_bytes > 0:
            surplus.append(copy.manifest.model)
            surplus_bytes -= copy.manifest.resident_bytes
    return surplus
