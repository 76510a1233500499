"""What a node keeps of the models that it has downloaded, the least recently used one first."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CheckpointShelf:
    """Models in `capacity_bytes` of a node; its processes share the list in `file`."""

    file: Path
    capacity_bytes: int

    def take(self, model: str) -> bool:
        """Whether the model is here; it is the last to leave then."""
        with self._open() as held:
            if model not in held:
                return False
            held[model] = held.pop(model)
            return True

    def put(self, model: str, size_bytes: int) -> None:
        """Keep a model, at the cost of those not used for longest; one that is too large is not."""
        if size_bytes > self.capacity_bytes:
            return
        with self._open() as held:
            held.pop(model, None)
            while sum(held.values()) + size_bytes > self.capacity_bytes:
                del held[next(iter(held))]
            held[model] = size_bytes

    @contextmanager
    def _open(self) -> Iterator[dict[str, int]]:
        """What is held, oldest first; changes are kept. One process at a time."""
        with self.file.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            held: dict[str, int] = json.loads(file.read() or "{}")
            yield held
            file.seek(0)
            file.truncate()
            json.dump(held, file)
