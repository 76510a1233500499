"""A cache tier of a node: the downloaded models, with LRU eviction."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CheckpointCache:
    """The models in `capacity_bytes` of a node; its processes share the list in `file`."""

    file: Path
    capacity_bytes: int

    def touch(self, model: str) -> bool:
        """Return True if the model is in the cache, and mark it as most recently used."""
        with self._open() as held:
            if model not in held:
                return False
            held[model] = held.pop(model)
            return True

    def put(self, model: str, size_bytes: int) -> None:
        """Add a model and evict the least recently used ones; ignore a model that is too large."""
        if size_bytes > self.capacity_bytes:
            return
        with self._open() as held:
            held.pop(model, None)
            while sum(held.values()) + size_bytes > self.capacity_bytes:
                del held[next(iter(held))]
            held[model] = size_bytes

    @contextmanager
    def _open(self) -> Iterator[dict[str, int]]:
        """Lock and yield the models, least recently used first; write changes back at the end."""
        with self.file.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            held: dict[str, int] = json.loads(file.read() or "{}")
            yield held
            file.seek(0)
            file.truncate()
            json.dump(held, file)
