"""The lifetime of a resource that threads share: closed only when no thread uses it.

    with lifetime.use():       # raises ClosedError after `close`
        os.preadv(fd, ...)

    lifetime.close()           # waits for uses to end; afterwards the descriptor may be closed

Hazard: a descriptor or address that is used after it was given back may belong to another file or
object of the process.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sllmreal.checkpoint.errors import ClosedError


class Lifetime:
    """The uses of a resource. `name` begins the error's message: "the pool"."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._num_uses = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def closed(self) -> bool:
        """True after `end` or `close` was called."""
        return self._closed

    def check(self) -> None:
        """Raise ClosedError after `close`."""
        if self._closed:
            raise ClosedError(f"{self._name} is closed: close it after its last use")

    @contextmanager
    def use(self) -> Iterator[None]:
        """Keep the resource open until the end. Raises ClosedError after `close`."""
        with self._changed:
            self.check()
            self._num_uses += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_uses -= 1
                self._changed.notify_all()

    def end(self) -> None:
        """Refuse further uses, without waiting for present ones."""
        with self._changed:
            self._closed = True

    def close(self) -> None:
        """Refuse further uses and wait until present ones have ended.

        A thread must not call it within a use of its own.
        """
        self.end()
        with self._changed:
            while self._num_uses:
                self._changed.wait()
