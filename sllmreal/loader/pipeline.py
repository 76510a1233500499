"""Stages of threads joined by bounded queues of chunk numbers: every stage works at the same time.

A chunk moves on as soon as its stage is done with it, with no barrier between stages, so that the
whole takes as long as its slowest stage. The first error or a cancellation stops all of them.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sllmreal.loader.errors import LoadCancelledError


@dataclass(frozen=True, slots=True)
class PipelineStage:
    """What is done to every chunk, and by how many threads at once.

    `queue_chunks` may wait for it, if it says so; else as many as for every other stage.
    """

    name: str
    work: Callable[[int], None]
    num_threads: int
    queue_chunks: int | None = None


class Cancellation:
    """Handed to a load by a caller who may want to stop it: at any chunk, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._listeners: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        """Stop the loads this is attached to, now and later. Returns without waiting for them."""
        with self._lock:
            self._cancelled = True
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    @contextmanager
    def heard_by(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` on cancellation, at once if it came before; until the end."""
        with self._lock:
            self._listeners.append(listener)
            cancelled = self._cancelled
        try:
            if cancelled:
                listener()
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)


class ChunkQueue:
    """A bounded queue of chunk numbers: closed when all is put, aborted when something failed."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._chunks: deque[int] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._aborted = False

    def put(self, chunk: int) -> bool:
        """Append, waiting for room. False when the queue was aborted: nobody will take it."""
        with self._changed:
            while len(self._chunks) >= self._capacity and not self._aborted:
                self._changed.wait()
            if self._aborted:
                return False
            self._chunks.append(chunk)
            self._changed.notify_all()
            return True

    def get(self) -> int | None:
        """The next chunk, waiting for one. None when the queue is closed and empty, or aborted."""
        with self._changed:
            while not self._chunks and not self._closed and not self._aborted:
                self._changed.wait()
            if self._aborted or not self._chunks:
                return None
            chunk = self._chunks.popleft()
            self._changed.notify_all()
            return chunk

    def close(self) -> None:
        """No more chunks will be put."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Wake everybody up with nothing."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()


class _Failure:
    """The first error of any thread."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._lock = threading.Lock()

    def record(self, error: BaseException) -> None:
        with self._lock:
            if self.error is None:
                self.error = error


def run_pipeline(
    stages: Sequence[PipelineStage],
    chunks: Iterable[int],
    queue_chunks: int,
    cancellation: Cancellation | None = None,
    on_abort: Callable[[], None] = lambda: None,
) -> None:
    """Send every chunk through all stages and return when the last one is done.

    Raises the first error of a stage, or LoadCancelledError; by then no thread is running. When
    stopping early, `on_abort` is called once, to wake stages that wait for something else.
    """
    queues = [ChunkQueue(stage.queue_chunks or queue_chunks) for stage in stages]
    failure = _Failure()

    def abort() -> None:
        for queue in queues:
            queue.abort()
        on_abort()

    def cancel() -> None:
        failure.record(LoadCancelledError("the load was cancelled"))
        abort()

    threads: list[threading.Thread] = []
    with (cancellation or Cancellation()).heard_by(cancel):
        try:
            for number, stage in enumerate(stages):
                following = queues[number + 1] if number + 1 < len(stages) else None
                threads += _started(stage, queues[number], following, failure, abort)
            for chunk in chunks:
                if not queues[0].put(chunk):
                    break
            queues[0].close()
            for thread in threads:
                thread.join()
        except BaseException:
            abort()
            raise
        finally:
            for thread in threads:
                thread.join()
    if failure.error is not None:
        raise failure.error


def _started(
    stage: PipelineStage,
    queue: ChunkQueue,
    following: ChunkQueue | None,
    failure: _Failure,
    abort: Callable[[], None],
) -> list[threading.Thread]:
    """The running threads of one stage; the last of them to end closes the queue behind it."""
    running = [stage.num_threads]
    lock = threading.Lock()

    def work() -> None:
        try:
            while (chunk := queue.get()) is not None:
                stage.work(chunk)
                if following is not None and not following.put(chunk):
                    return
        except BaseException as error:  # carried to the caller of run_pipeline
            failure.record(error)
            abort()
        finally:
            with lock:
                running[0] -= 1
                if running[0] == 0 and following is not None:
                    following.close()

    threads = [
        threading.Thread(target=work, name=f"{stage.name}-{number}", daemon=True)
        for number in range(stage.num_threads)
    ]
    for thread in threads:
        thread.start()
    return threads
