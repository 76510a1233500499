"""A reader of a model's chunks: from the SSD, or from the remote source and onto the SSD."""

import threading
from collections.abc import Callable
from contextlib import ExitStack

from sllmcore.types import REMOTE, SSD, StorageTier
from sllmreal.checkpoint.errors import StorageError
from sllmreal.loader.plan import ChunkRead
from sllmreal.loader.transfer import verify_chunk
from sllmreal.worker.remote_source import RemoteSource, opened_origin
from sllmreal.worker.ssd_copy import OpenedCopy, SsdCopy


class TierReader:
    """A loader's reader over both tiers. It verifies chunks, and counts bytes by tier.

    Args:
        copy: The model's directory on the SSD, open as `opened`.
        keep_bytes: Chunks that end within the first `keep_bytes` are stored on the SSD.
        stack: Closes the remote source at the end of the load.
    """

    def __init__(
        self, copy: SsdCopy, opened: OpenedCopy, keep_bytes: int, stack: ExitStack
    ) -> None:
        self._copy = copy
        self._opened = opened
        self._keep_bytes = keep_bytes
        self._stack = stack
        self._lock = threading.Lock()
        self._origin: RemoteSource | None = None
        self.moved_bytes: dict[StorageTier, int] = {REMOTE: 0, SSD: 0}

    def read_into(self, read: ChunkRead, address: int) -> None:
        """Read a chunk into memory.

        Raises:
            StorageError: The chunk cannot be read.
        """
        tier = SSD
        if not self._opened.read_into(read, address):
            tier = REMOTE
            self._opened_origin().read_into(read, address)
            if self._copy.layout.chunk_bytes is not None:
                verify_chunk(self._copy.layout, read, address)
        with self._lock:
            self.moved_bytes[tier] += read.size_bytes

    @property
    def keep(self) -> Callable[[ChunkRead, int], None]:
        """A function that stores a chunk on the SSD if it is to be kept and is not there."""
        return self._store

    def _store(self, read: ChunkRead, address: int) -> None:
        if self._copy.end_bytes(read.key) <= self._keep_bytes and not self._copy.has(read.key):
            self._opened.store(read, address)

    def _opened_origin(self) -> RemoteSource:
        """Return the remote source; open it for the first chunk."""
        with self._lock:
            if self._origin is None:
                manifest = self._copy.manifest
                origin = self._stack.enter_context(opened_origin(manifest.source))
                if origin.layout.identity != manifest.identity:
                    raise StorageError(
                        f"{manifest.source} has changed since it was deployed: deploy it again"
                    )
                self._origin = origin
            return self._origin
