"""An inference engine with continuous batching, advanced by a token clock.

Sequences join and leave between iterations. A prefill has the engine to itself; a decode iteration
gives each sequence of the batch one token. While no sequence joins, leaves or finishes, iterations
differ only in their growing context, and many of them have a closed form: the engine sets one timer
per change of the batch, never one per token.
"""

from collections import deque
from collections.abc import Callable, Iterator
from math import ceil, floor

from simpy.events import Event, Timeout

from sllmsim.clock import SimClock
from sllmsim.timing import InferenceTiming, iterations_done, iterations_s

_ROUNDING = 1e-9  # share of an iteration: an instant this close to its end counts as its end


class SimSequence:
    """A request's tokens in one engine. The prefill yields the first output token."""

    __slots__ = ("first_token_at_s", "input_tokens", "left_tokens", "made_tokens", "request_id")

    def __init__(self, request_id: str, input_tokens: int, output_tokens: int) -> None:
        self.request_id = request_id
        self.input_tokens = input_tokens
        self.made_tokens = 0
        self.left_tokens = output_tokens
        self.first_token_at_s: float | None = None

    @property
    def context_tokens(self) -> int:
        """Input and output tokens."""
        return self.input_tokens + self.made_tokens


class _Prefill:
    """Work that has the engine to itself: a prompt, or tokens of a sequence that migrates here."""

    __slots__ = ("duration_s", "on_done", "sequence")

    def __init__(
        self, duration_s: float, sequence: SimSequence | None, on_done: Callable[[], None] | None
    ) -> None:
        self.duration_s = duration_s
        self.sequence = sequence
        self.on_done = on_done


class BatchEngine:
    """The engine of an instance.

    The pending timer marks the end of a *span*: at most one prefill, then a number of decode
    iterations over a fixed batch.

    Args:
        on_finished: Called with each sequence that has all its tokens.
    """

    __slots__ = (
        "_batch",
        "_began_at_s",
        "_between_spans",
        "_clock",
        "_context_tokens",
        "_iterations",
        "_joining",
        "_leaving",
        "_next_timing",
        "_on_finished",
        "_prefill",
        "_queue",
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
        self._between_spans = False  # callbacks run, which may bring new work
        self._prefill: _Prefill | None = None
        self._began_at_s = 0.0
        self._iterations = 0
        self._context_tokens = 0

    def add(self, sequence: SimSequence) -> None:
        """Start a sequence: prefill its tokens, then decode the tokens that are left."""
        duration_s = self.timing.prefill_s(sequence.context_tokens)
        self._queue.append(_Prefill(duration_s, sequence, None))
        self._interrupt()

    def recompute(self, prior_tokens: int, tokens: int, on_done: Callable[[], None]) -> None:
        """Compute the KV cache of `tokens` tokens after `prior_tokens`, then call `on_done`."""
        alone_s = self.timing.prefill_s(tokens)
        added_s = self.timing.prefill_s(prior_tokens + tokens)
        if prior_tokens:
            added_s -= self.timing.prefill_s(prior_tokens)
        self._queue.append(_Prefill(max(alone_s, added_s), None, on_done))
        self._interrupt()

    def adopt(self, sequence: SimSequence) -> None:
        """Decode a sequence from the next iteration on. Its KV cache is here already."""
        self._joining.append(sequence)
        self._interrupt()

    def retime(self, timing: InferenceTiming) -> None:
        """Change the timing from the next iteration on; queued prefills keep their durations."""
        self._next_timing = timing
        self._interrupt()

    def take(self, request_id: str, on_taken: Callable[[SimSequence], None]) -> None:
        """Take a sequence out after the current iteration, unless that iteration finishes it.

        A request that is not here is ignored: commands cross with events.
        """
        here = request_id in self._batch
        if here or any(sequence.request_id == request_id for sequence in self._pending()):
            self._leaving[request_id] = on_taken
            self._interrupt()

    def context_tokens(self, request_id: str) -> int:
        """Return the input and output tokens of a request so far; 0 if it is not here."""
        sequence = self._batch.get(request_id)
        if sequence is not None:
            return sequence.context_tokens + self._whole_iterations()
        for item in self._pending():
            if item.request_id == request_id:
                return item.context_tokens + self._begun_tokens(item)
        return 0

    def _begun_tokens(self, sequence: SimSequence) -> int:
        """Return the tokens, not handed out yet, of a sequence prefilled in this span."""
        mine = self._prefill is not None and self._prefill.sequence is sequence
        return 1 + self._whole_iterations() if mine and self._decoding_s() >= 0 else 0

    def _pending(self) -> Iterator[SimSequence]:
        """Yield the sequences that do not decode yet."""
        if self._prefill is not None and self._prefill.sequence is not None:
            yield self._prefill.sequence
        for item in self._queue:
            if item.sequence is not None:
                yield item.sequence
        yield from self._joining

    def halt(self) -> list[SimSequence]:
        """Stop the engine. Return its sequences with the tokens that they have.

        A sequence that was about to finish lacks its last token, which was not delivered.
        """
        done = self._whole_iterations()
        for sequence in self._batch.values():
            self._give(sequence, min(done, sequence.left_tokens - 1))
        sequences = [*self._batch.values(), *self._pending()]
        if self._prefill is not None and self._prefill.sequence is not None:
            sequence = self._prefill.sequence
            self._give(sequence, min(self._begun_tokens(sequence), sequence.left_tokens - 1))
        if self._timer is not None:
            self._clock.cancel(self._timer)
        self._batch, self._joining, self._leaving = {}, [], {}
        self._queue.clear()
        self._prefill = self._timer = None
        return sequences

    def _interrupt(self) -> None:
        """End the current span after the iteration under way; begin a span if there is none."""
        if self._between_spans:
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
        """Return the seconds for which the span has decoded; negative during its prefill."""
        prefill_s = self._prefill.duration_s if self._prefill is not None else 0.0
        return self._clock.now - self._began_at_s - prefill_s

    def _decoders(self) -> int:
        """Return the number of sequences that decode in this span: batch and prefilled one."""
        prefilled = self._prefill is not None and self._prefill.sequence is not None
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
        """Begin the next span, if there is work."""
        for sequence in self._joining:
            self._batch[sequence.request_id] = sequence
        self._joining.clear()
        self.timing = self._next_timing
        self._prefill = self._queue.popleft() if self._queue else None
        new = self._prefill.sequence if self._prefill is not None else None
        if self._prefill is None and not self._batch:
            self._timer = None
            return
        left = [sequence.left_tokens for sequence in self._batch.values()]
        context_tokens = sum(sequence.context_tokens for sequence in self._batch.values())
        if new is not None:
            left.append(new.left_tokens - 1)
            context_tokens += new.context_tokens + 1
        # Sequences that wait to join or leave do so before the next iteration, and `on_done` is due
        # as soon as tokens are recomputed: the span ends after its prefill.
        recomputes = self._prefill is not None and self._prefill.on_done is not None
        ends_soon = self._queue or self._leaving or recomputes
        self._iterations = 0 if ends_soon or not left else min(left)
        self._context_tokens = context_tokens
        self._began_at_s = self._clock.now
        self._timer = self._clock.call_at(self._ends_at_s(), self._ended)

    def _ended(self, _: Event) -> None:
        """End a span: hand out its tokens, remove sequences that finish or leave, and continue.

        The next span begins after all callbacks, because they may bring new work.
        """
        self._timer = None
        prefill, self._prefill = self._prefill, None
        iterations, self._iterations = self._iterations, 0
        finished = []
        for sequence in self._batch.values():
            sequence.made_tokens += iterations
            sequence.left_tokens -= iterations
            if not sequence.left_tokens:
                finished.append(sequence)
        if prefill is not None and prefill.sequence is not None:
            self._admit(prefill, prefill.sequence, iterations)
            if not prefill.sequence.left_tokens:
                finished.append(prefill.sequence)
        for sequence in finished:
            del self._batch[sequence.request_id]
            self._leaving.pop(sequence.request_id, None)
        taken = self._taken() if self._leaving else ()
        self._between_spans = True
        if prefill is not None and prefill.on_done is not None:
            prefill.on_done()
        for sequence in finished:
            self._on_finished(sequence)
        for on_taken, sequence in taken:
            on_taken(sequence)
        self._between_spans = False
        self._begin()

    def _admit(self, prefill: _Prefill, sequence: SimSequence, iterations: int) -> None:
        if sequence.first_token_at_s is None:
            sequence.first_token_at_s = self._began_at_s + prefill.duration_s
        self._give(sequence, 1 + iterations)
        self._batch[sequence.request_id] = sequence

    def _taken(self) -> list[tuple[Callable[[SimSequence], None], SimSequence]]:
        """Return the sequences that leave now, from the batch or from the queue."""
        taken = []
        for request_id, on_taken in list(self._leaving.items()):
            sequence = self._batch.pop(request_id, None)
            if sequence is None:
                waiting = [
                    p for p in self._queue if p.sequence and p.sequence.request_id == request_id
                ]
                if not waiting:
                    continue
                self._queue.remove(waiting[0])
                sequence = waiting[0].sequence
                assert sequence is not None
            del self._leaving[request_id]
            taken.append((on_taken, sequence))
        return taken

    @staticmethod
    def _give(sequence: SimSequence, tokens: int) -> None:
        sequence.made_tokens += tokens
        sequence.left_tokens -= tokens
