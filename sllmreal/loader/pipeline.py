"""A pipeline: stages of threads, joined by bounded queues of chunk numbers.

A chunk passes to the next stage as soon as a stage is done with it, without a barrier, so the
pipeline takes as long as its slowest stage. The first error or a cancellation stops all stages.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from sllmreal.loader.errors import LoadCancelledError


@dataclass(frozen=True, slots=True)
class PipelineStage:
    """A function of chunk numbers and the number of threads that run it.

    `queue_chunks` is the capacity of the queue before the stage; None: the pipeline's default.
    """

    name: str
    work: Callable[[int], None]
    num_threads: int
    queue_chunks: int | None = None


class Cancellation:
    """A handle to cancel loads, from any thread; a load stops at the next chunk."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._listeners: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        """True after `cancel`."""
        return self._cancelled

    def cancel(self) -> None:
        """Stop present and future loads that use this handle. Returns without waiting for them."""
        with self._lock:
            self._cancelled = True
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    @contextmanager
    def on_cancel(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` on cancellation until the end; at once if it is cancelled already."""
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


@contextmanager
def either(first: Cancellation | None, second: Cancellation) -> Iterator[Cancellation]:
    """Yield a handle that is cancelled with either of two handles, until the end."""
    joint = Cancellation()
    with ExitStack() as stack:
        for one in (first, second):
            if one is not None:
                stack.enter_context(one.on_cancel(joint.cancel))
        yield joint


class ChunkQueue:
    """A bounded queue of chunk numbers: closed after the last chunk, aborted on an error."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._chunks: deque[int] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._aborted = False

    def put(self, chunk: int) -> bool:
        """Append a chunk, waiting for room. Return False if the queue was aborted."""
        with self._changed:
            while len(self._chunks) >= self._capacity and not self._aborted:
                self._changed.wait()
            if self._aborted:
                return False
            self._chunks.append(chunk)
            self._changed.notify_all()
            return True

    def get(self) -> int | None:
        """Wait for a chunk and return it; None if the queue is aborted, or closed and empty."""
        with self._changed:
            while not self._chunks and not self._closed and not self._aborted:
                self._changed.wait()
            if self._aborted or not self._chunks:
                return None
            chunk = self._chunks.popleft()
            self._changed.notify_all()
            return chunk

    def close(self) -> None:
        """Declare that no more chunks will be put."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Wake all waiting threads; they get no chunk."""
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
    """Pass every chunk through all stages and return when the last chunk is done.

    Raises the first error of a stage, or LoadCancelledError; no thread is running then. After an
    error, `on_abort` is called, to wake stages that wait for other things than the queues.
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
    with (cancellation or Cancellation()).on_cancel(cancel):
        try:
            for number, stage in enumerate(stages):
                following = queues[number + 1] if number + 1 < len(stages) else None
                threads += _started(
                    stage=stage,
                    queue=queues[number],
                    following=following,
                    failure=failure,
                    abort=abort,
                )
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
    """Start the threads of one stage; the last one to end closes the next stage's queue."""
    running = [stage.num_threads]
    lock = threading.Lock()

    def work() -> None:
        try:
            while (chunk := queue.get()) is not None:
                stage.work(chunk)
                if following is not None and not following.put(chunk):
                    return
        except BaseException as error:  # raised again in run_pipeline
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
