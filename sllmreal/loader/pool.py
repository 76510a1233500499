"""The DRAM tier: a pool of equal chunks, allocated and faulted in once, shared between processes.

The pool is anonymous shared memory behind a descriptor; a process with the descriptor can map it.
Its pages are gathered into huge pages at creation, which needs no privilege and no system setting.
"""

import mmap
import os
import threading
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType

from sllmcore.errors import UsageError
from sllmreal.checkpoint.errors import ClosedError, StorageError
from sllmreal.checkpoint.layout import Layout
from sllmreal.checkpoint.lifetime import Lifetime
from sllmreal.checkpoint.opening import close_unwritten
from sllmreal.loader.errors import CheckpointInUseError
from sllmreal.loader.ledger import PoolLedger, ResidentChunk
from sllmreal.loader.memory import (
    HUGE_PAGE_BYTES,
    Image,
    advise_huge_range,
    collapse,
    map_file,
    populate,
    reserve_image,
)
from sllmreal.loader.pipeline import Cancellation
from sllmreal.loader.plan import DEFAULT_CHUNK_BYTES, ChunkKey
from sllmreal.loader.window import map_window


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A snapshot of a pool. `resident_bytes` is by checkpoint identity."""

    chunk_bytes: int
    num_chunks: int
    num_free: int
    huge_pages: bool
    resident_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """Anonymous shared memory: its descriptor, its mapping, and whether it is on huge pages.

    The mapping lives as long as `image`; the owner closes the descriptor.
    """

    fd: int
    image: Image
    huge_pages: bool


class ChunkPool:
    """A pool of `size_bytes`, rounded down to chunks, as a context manager. Thread-safe.

    After `close`, every method but `close` raises ClosedError. Tensors of the pool stay valid.
    """

    def __init__(self, size_bytes: int, chunk_bytes: int = DEFAULT_CHUNK_BYTES) -> None:
        if chunk_bytes <= 0 or chunk_bytes % HUGE_PAGE_BYTES:
            raise UsageError(f"chunk_bytes must be a multiple of 2 MiB, got {chunk_bytes}")
        if size_bytes < chunk_bytes:
            raise UsageError(
                f"a pool must have at least one chunk of {chunk_bytes} bytes, got {size_bytes}"
            )
        self.chunk_bytes = chunk_bytes
        self.size_bytes = size_bytes // chunk_bytes * chunk_bytes
        self._memory: SharedMemory | None = _allocated(self.size_bytes)
        self.huge_pages = self._memory.huge_pages
        self._ledger = PoolLedger(size_bytes // chunk_bytes)
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._pins: dict[str, int] = {}
        self._windows: dict[str, list[weakref.ref[mmap.mmap]]] = {}
        self._lifetime = Lifetime("the pool")
        self.closing = Cancellation()  # of the loads into this pool

    def __enter__(self) -> "ChunkPool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End running loads, which raise ClosedError, wait for them, and free the memory.

        Memory with tensors in it is freed with the last of them.
        """
        self._lifetime.end()
        self.closing.cancel()
        self._lifetime.close()
        with self._lock:
            memory, self._memory = self._memory, None
        if memory is not None:
            close_unwritten(memory.fd)

    @property
    def closed(self) -> bool:
        """True after `close` was called."""
        return self._lifetime.closed

    def check_open(self) -> None:
        """Raise ClosedError after `close`."""
        self._lifetime.check()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the memory mapped until the end: `close` waits. For code that uses addresses."""
        with self._lifetime.use():
            yield

    @property
    def memory(self) -> SharedMemory:
        """The memory; it stays mapped as long as this object is referenced."""
        with self._lock:
            self.check_open()
            assert self._memory is not None, "an open pool has memory"
            return self._memory

    @property
    def fd(self) -> int:
        """Descriptor of the shared memory."""
        return self.memory.fd

    @property
    def address(self) -> int:
        """Address of chunk 0 in this process; the chunks follow one another. See `in_use`."""
        return self.memory.image.address

    def chunk_address(self, chunk: int) -> int:
        """Return the address of a chunk in this process. See `in_use`."""
        return self.address + chunk * self.chunk_bytes

    def status(self) -> PoolStatus:
        """Return a snapshot of the pool."""
        with self._lock:
            self.check_open()
            ledger = self._ledger
            return PoolStatus(
                chunk_bytes=self.chunk_bytes,
                num_chunks=ledger.num_chunks,
                num_free=ledger.num_free,
                huge_pages=self.huge_pages,
                resident_bytes=ledger.resident_bytes(),
            )

    def resident(self, identity: str) -> dict[ChunkKey, int]:
        """Return the pool chunk of each resident chunk of a checkpoint."""
        with self._lock:
            self.check_open()
            return self._ledger.resident(identity)

    def mark_corrupt(self, identity: str, keys: Collection[ChunkKey]) -> None:
        """Mark resident chunks with wrong bytes: they count as missing until loaded again."""
        with self._lock:
            self._ledger.mark_corrupt(identity, keys)

    def corrupt(self, identity: str) -> dict[ChunkKey, int]:
        """Return the pool chunk of each chunk that is marked as corrupt."""
        with self._lock:
            return self._ledger.corrupt(identity)

    @contextmanager
    def pinned(self, identity: str) -> Iterator[None]:
        """Protect a checkpoint's chunks from eviction until the end."""
        with self._lock:
            self.check_open()
            self._pins[identity] = self._pins.get(identity, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._pins[identity] -= 1
                if not self._pins[identity]:
                    del self._pins[identity]

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Hold the lock of loads: they run one at a time, so that their times can be predicted."""
        self.check_open()
        with self._loading:
            self.check_open()  # it may have been closed while this load waited
            yield

    @contextmanager
    def reserved(self, num: int) -> Iterator["Reservation"]:
        """Reserve `num` chunks to load into; chunks not committed are free after the end."""
        with self.in_use():
            with self._lock:
                reservation = Reservation(self, self._ledger.reserve(num))
            try:
                yield reservation
            finally:
                with self._lock:
                    self._ledger.release(reservation.end())

    def commit(self, identity: str, chunks: Mapping[ChunkKey, ResidentChunk]) -> None:
        """Record verified chunks of a reservation; for `Reservation` only."""
        with self._lock:
            self._ledger.commit(identity, chunks)

    def window(self, layout: Layout, chunks: Mapping[ChunkKey, int]) -> list[Image]:
        """Map `chunks` as images of the partitions; while one lives, the checkpoint is in use."""
        with self.in_use():
            images = map_window(layout, self.chunk_bytes, self.fd, chunks)
        with self._lock:
            alive = [ref for ref in self._windows.get(layout.identity, []) if ref() is not None]
            alive += [weakref.ref(image.mapping) for image in images]
            self._windows[layout.identity] = alive
        return images

    def evict(self, identity: str, num_bytes: int | None = None) -> int:
        """Free at least the last `num_bytes` of a checkpoint, None: all; return the bytes freed.

        Raises CheckpointInUseError if it is pinned or this process has tensors of it.
        """
        with self._lock:
            self.check_open()
            if self._has_users(identity):
                raise CheckpointInUseError(
                    f"checkpoint {identity[:16]} is in use: drop its tensors first"
                )
            return self._ledger.evict(identity, num_bytes)

    def _has_users(self, identity: str) -> bool:
        alive = [ref for ref in self._windows.get(identity, ()) if ref() is not None]
        if alive:
            self._windows[identity] = alive
        else:
            self._windows.pop(identity, None)
        return bool(alive) or identity in self._pins


class Reservation:
    """Chunks taken from a pool by a load that has not finished."""

    def __init__(self, pool: ChunkPool, chunks: Sequence[int]) -> None:
        self._pool = pool
        self._ended = False
        self.chunks = tuple(chunks)
        self._uncommitted = set(chunks)

    def commit(self, identity: str, chunks: Mapping[ChunkKey, ResidentChunk]) -> None:
        """Make these chunks of the reservation resident. Raises ClosedError after its end."""
        if self._ended:
            raise ClosedError("the reservation has ended: commit within its `with` block")
        self._pool.commit(identity, chunks)
        self._uncommitted.difference_update(resident.chunk for resident in chunks.values())

    def end(self) -> set[int]:
        """Refuse further commits and return the chunks that were not committed."""
        self._ended = True
        return self._uncommitted


def _allocated(size_bytes: int) -> SharedMemory:
    """Allocate shared memory and fault it in. Raises StorageError."""
    with ExitStack() as on_error:
        try:
            fd = os.memfd_create("sllm-pool", os.MFD_CLOEXEC)
            on_error.callback(close_unwritten, fd)
            os.ftruncate(fd, size_bytes)
        except OSError as error:
            raise StorageError(
                f"cannot get {size_bytes} bytes of shared memory: {error}"
            ) from error
        image = reserve_image(size_bytes)
        map_file(image.address, fd, 0, size_bytes, flags=mmap.MAP_SHARED)
        advise_huge_range(image.address, size_bytes)
        populate(image.address, size_bytes)
        huge_pages = collapse(image.address, size_bytes)
        on_error.pop_all()
    return SharedMemory(fd, image, huge_pages)
