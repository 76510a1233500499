"""An inference engine with continuous batching, advanced by a token clock.

Requests join and leave between iterations. A prefill takes the engine for itself; decoding gives
each request of the batch one token per iteration. As long as nobody joins, leaves or finishes, the
iterations are all alike but for the growing context, so the clock jumps over them in closed form:
one timer per change of the batch, never one per token.
"""

from collections import deque
from collections.abc import Callable, Iterator
from math import ceil, floor

from simpy.events import Event, Timeout

from sllmsim.clock import SimClock
from sllmsim.timing import InferenceTiming, iterations_done, iterations_s

_ROUNDING = 1e-9  # of an iteration: an instant that close to its end is its end


class SimSequence:
    """One request's tokens in one engine. The first output token comes out of the prefill."""

    __slots__ = ("first_token_at_s", "input_tokens", "left_tokens", "made_tokens", "request_id")

    def __init__(self, request_id: str, input_tokens: int, output_tokens: int) -> None:
        self.request_id = request_id
        self.input_tokens = input_tokens
        self.made_tokens = 0
        self.left_tokens = output_tokens
        self.first_token_at_s: float | None = None

    @property
    def context_tokens(self) -> int:
        return self.input_tokens + self.made_tokens


class _Prefill:
    """Work that takes the engine alone: a prompt, or the tokens of a migrated inference."""

    __slots__ = ("duration_s", "on_done", "stream")

    def __init__(
        self, duration_s: float, stream: SimSequence | None, on_done: Callable[[], None] | None
    ) -> None:
        self.duration_s = duration_s
        self.stream = stream
        self.on_done = on_done


class BatchEngine:
    """One instance's engine.

    A *span* is what the pending timer stands for: at most one prefill, then a number of decode
    iterations over a fixed batch. `on_finished` is called for each stream that has all its tokens.
    """

    __slots__ = (
        "_batch",
        "_began_at_s",
        "_clock",
        "_context_tokens",
        "_iterations",
        "_joining",
        "_leaving",
        "_next_timing",
        "_on_finished",
        "_prefill",
        "_queue",
        "_telling",
        "_timer",
        "timing",
    )

    def __init__(
        self, clock: SimClock, timing: InferenceTiming, on_finished: Callable[[SimSequence], None]
    ) -> None:
        self._clock = clock
        self.timing = timing
        self._next_timing = timing
        self._on_finished = on_finished
        self._batch: dict[str, SimSequence] = {}  # decoding, by request id
        self._queue: deque[_Prefill] = deque()
        self._joining: list[SimSequence] = []
        self._leaving: dict[str, Callable[[SimSequence], None]] = {}
        self._timer: Timeout | None = None
        self._telling = False  # between two spans
        self._prefill: _Prefill | None = None
        self._began_at_s = 0.0
        self._iterations = 0
        self._context_tokens = 0

    def add(self, stream: SimSequence) -> None:
        """Start a request: prefill what it has, then decode what is left."""
        duration_s = self.timing.prefill_s(stream.context_tokens)
        self._queue.append(_Prefill(duration_s, stream, None))
        self._interrupt()

    def recompute(self, prior_tokens: int, tokens: int, on_done: Callable[[], None]) -> None:
        """Compute the KV cache of `tokens` more tokens behind `prior_tokens`."""
        alone_s = self.timing.prefill_s(tokens)
        added_s = self.timing.prefill_s(prior_tokens + tokens)
        if prior_tokens:
            added_s -= self.timing.prefill_s(prior_tokens)
        self._queue.append(_Prefill(max(alone_s, added_s), None, on_done))
        self._interrupt()

    def adopt(self, stream: SimSequence) -> None:
        """Decode a request whose KV cache is here already, from the next iteration on."""
        self._joining.append(stream)
        self._interrupt()

    def retime(self, timing: InferenceTiming) -> None:
        """Be as fast as that from the next iteration on; prompts that wait count as they were."""
        self._next_timing = timing
        self._interrupt()

    def take(self, request_id: str, on_taken: Callable[[SimSequence], None]) -> None:
        """Take a request out at the end of the current iteration, unless it finishes with it.

        Nothing happens for a request that is not here (any more): orders and answers cross.
        """
        here = request_id in self._batch
        if here or any(stream.request_id == request_id for stream in self._pending()):
            self._leaving[request_id] = on_taken
            self._interrupt()

    def context_tokens(self, request_id: str) -> int:
        """Input and output tokens of a request as of now; 0 for one that is not here."""
        stream = self._batch.get(request_id)
        if stream is not None:
            return stream.context_tokens + self._whole_iterations()
        for item in self._pending():
            if item.request_id == request_id:
                return item.context_tokens + self._begun_tokens(item)
        return 0

    def _begun_tokens(self, stream: SimSequence) -> int:
        """Tokens, not handed out yet, of a request that has been prefilled in this span."""
        mine = self._prefill is not None and self._prefill.stream is stream
        return 1 + self._whole_iterations() if mine and self._decoding_s() >= 0 else 0

    def _pending(self) -> Iterator[SimSequence]:
        """Streams that do not decode yet."""
        if self._prefill is not None and self._prefill.stream is not None:
            yield self._prefill.stream
        for item in self._queue:
            if item.stream is not None:
                yield item.stream
        yield from self._joining

    def halt(self) -> list[SimSequence]:
        """The engine dies. Returns its streams, with the tokens they had.

        A stream that is about to be reported as finished lacks its last token: nobody got it.
        """
        done = self._whole_iterations()
        for stream in self._batch.values():
            self._give(stream, min(done, stream.left_tokens - 1))
        streams = [*self._batch.values(), *self._pending()]
        if self._prefill is not None and self._prefill.stream is not None:
            stream = self._prefill.stream
            self._give(stream, min(self._begun_tokens(stream), stream.left_tokens - 1))
        if self._timer is not None:
            self._clock.cancel(self._timer)
        self._batch, self._joining, self._leaving = {}, [], {}
        self._queue.clear()
        self._prefill = self._timer = None
        return streams

    def _interrupt(self) -> None:
        """Let the current span end with the iteration under way, or begin one."""
        if self._telling:
            return
        if self._timer is None:
            self._begin()
            return
        elapsed_s = self._decoding_s()
        if self._prefill is not None and elapsed_s < 0:
            iterations = 0
        else:
            iterations = ceil(self._iterations_done(elapsed_s) - _ROUNDING)
        if iterations < self._iterations:
            self._iterations = iterations
            self._clock.cancel(self._timer)
            self._timer = self._clock.call_at(self._ends_at_s(), self._ended)

    def _decoding_s(self) -> float:
        """Since when the span has been decoding; negative while its prefill lasts."""
        prefill_s = self._prefill.duration_s if self._prefill is not None else 0.0
        return self._clock.now - self._began_at_s - prefill_s

    def _decoders(self) -> int:
        """Requests that decode in this span: the batch, and the one that is prefilled first."""
        prefilled = self._prefill is not None and self._prefill.stream is not None
        return len(self._batch) + prefilled

    def _iterations_done(self, elapsed_s: float) -> float:
        batch = self._decoders()
        if not batch or elapsed_s <= 0:
            return 0.0
        return iterations_done(self.timing, elapsed_s, batch, self._context_tokens)

    def _whole_iterations(self) -> int:
        if self._timer is None:
            return 0
        done = floor(self._iterations_done(self._decoding_s()) + _ROUNDING)
        return max(0, min(done, self._iterations))

    def _ends_at_s(self) -> float:
        prefill_s = self._prefill.duration_s if self._prefill is not None else 0.0
        batch = self._decoders()
        decode_s = 0.0
        if self._iterations:
            decode_s = iterations_s(self.timing, self._iterations, batch, self._context_tokens)
        return self._began_at_s + prefill_s + decode_s

    def _begin(self) -> None:
        """Begin the next span, if there is anything to do."""
        for stream in self._joining:
            self._batch[stream.request_id] = stream
        self._joining.clear()
        self.timing = self._next_timing
        self._prefill = self._queue.popleft() if self._queue else None
        new = self._prefill.stream if self._prefill is not None else None
        if self._prefill is None and not self._batch:
            self._timer = None
            return
        left = [stream.left_tokens for stream in self._batch.values()]
        context_tokens = sum(stream.context_tokens for stream in self._batch.values())
        if new is not None:
            left.append(new.left_tokens - 1)
            context_tokens += new.context_tokens + 1
        # Whoever waits to come in or out does so before the next iteration, and who waits for
        # tokens to be recomputed is told when they are.
        told = self._prefill is not None and self._prefill.on_done is not None
        waits = self._queue or self._leaving or told
        self._iterations = 0 if waits or not left else min(left)
        self._context_tokens = context_tokens
        self._began_at_s = self._clock.now
        self._timer = self._clock.call_at(self._ends_at_s(), self._ended)

    def _ended(self, _: Event) -> None:
        """The span is over: hand out its tokens, let go who is done or leaves, and go on.

        The next span begins when everybody has been told, for some of them bring new work.
        """
        self._timer = None
        prefill, self._prefill = self._prefill, None
        iterations, self._iterations = self._iterations, 0
        finished = []
        for stream in self._batch.values():
            stream.made_tokens += iterations
            stream.left_tokens -= iterations
            if not stream.left_tokens:
                finished.append(stream)
        if prefill is not None and prefill.stream is not None:
            self._admit(prefill, prefill.stream, iterations)
            if not prefill.stream.left_tokens:
                finished.append(prefill.stream)
        for stream in finished:
            del self._batch[stream.request_id]
            self._leaving.pop(stream.request_id, None)
        taken = self._taken() if self._leaving else ()
        self._telling = True
        if prefill is not None and prefill.on_done is not None:
            prefill.on_done()
        for stream in finished:
            self._on_finished(stream)
        for on_taken, stream in taken:
            on_taken(stream)
        self._telling = False
        self._begin()

    def _admit(self, prefill: _Prefill, stream: SimSequence, iterations: int) -> None:
        if stream.first_token_at_s is None:
            stream.first_token_at_s = self._began_at_s + prefill.duration_s
        self._give(stream, 1 + iterations)
        self._batch[stream.request_id] = stream

    def _taken(self) -> list[tuple[Callable[[SimSequence], None], SimSequence]]:
        """Those who leave now: from the batch, or before they were ever begun."""
        taken = []
        for request_id, on_taken in list(self._leaving.items()):
            stream = self._batch.pop(request_id, None)
            if stream is None:
                waiting = [p for p in self._queue if p.stream and p.stream.request_id == request_id]
                if not waiting:
                    continue
                self._queue.remove(waiting[0])
                stream = waiting[0].stream
                assert stream is not None
            del self._leaving[request_id]
            taken.append((on_taken, stream))
        return taken

    @staticmethod
    def _give(stream: SimSequence, tokens: int) -> None:
        stream.made_tokens += tokens
        stream.left_tokens -= tokens
