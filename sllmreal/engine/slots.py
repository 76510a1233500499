"""The engine over any model: slots, chunked prefill, continuous batching, migration.

A step computes, in this order:
    decode   one token for every released sequence with a cache that lacks only its last token
    prefill  up to `prefill_chunk_tokens` tokens of the others: released ones before held ones,
             each kind in order of arrival
so that a long prompt delays the next token of the others by one chunk at most.
"""

import time
from collections.abc import Callable, Sequence

from sllmcore.errors import UsageError
from sllmreal.engine.errors import BadStateError, NoSlotError, UnknownSequenceError
from sllmreal.engine.model import Chosen, Model
from sllmreal.engine.prefill import Prefill, passes
from sllmreal.engine.protocol import (
    Capabilities,
    EngineStatistics,
    KVBlock,
    OutputToken,
    Progress,
    SequenceSpec,
)
from sllmreal.engine.sequence import (
    RunningSequence,
    check_continued,
    check_spec,
    finish_of,
    records_of,
)

Clock = Callable[[], float]


class SlotEngine:
    """An `Engine` that gets its tokens from a `Model`. The clock is for statistics only."""

    def __init__(
        self, model: Model, *, prefill_chunk_tokens: int = 256, clock: Clock = time.perf_counter
    ) -> None:
        if prefill_chunk_tokens < 1:
            raise UsageError(f"prefill_chunk_tokens must be at least 1, got {prefill_chunk_tokens}")
        self.capabilities: Capabilities = model.capabilities
        self._model = model
        self._chunk_tokens = prefill_chunk_tokens
        self._clock = clock
        self._sequences: dict[str, RunningSequence] = {}
        self._closed = False
        self._num_steps = 0
        self._prefilled_tokens = 0
        self._generated_tokens = 0
        self._step_s = 0.0

    def start(
        self, spec: SequenceSpec, *, held: bool = False, compute_until: int | None = None
    ) -> None:
        if self._closed:
            raise UsageError("the engine is closed")
        if spec.request_id in self._sequences:
            raise UsageError(f"request {spec.request_id} is in the engine already")
        check_spec(spec, self.capabilities)
        if len(self._sequences) >= self.capabilities.num_slots:
            raise NoSlotError(f"all {self.capabilities.num_slots} slots are taken")
        sequence = RunningSequence(spec, held, compute_until)
        sequence.finish = finish_of(sequence, self.capabilities.context_tokens)
        self._model.admit(sequence)
        self._sequences[spec.request_id] = sequence

    def extend(self, request_id: str, tokens: Sequence[int], logprobs: bytes = b"") -> None:
        sequence = self._sequence(request_id)
        check_continued(sequence, tokens, self.capabilities)
        records = records_of(sequence.spec, len(tokens), logprobs)
        sequence.tokens.extend(tokens)
        sequence.records.extend(records)
        sequence.finish = finish_of(sequence, self.capabilities.context_tokens)

    def hold(self, request_id: str) -> Progress:
        sequence = self._sequence(request_id)
        sequence.held = True
        return sequence.progress

    def release(self, request_id: str) -> None:
        sequence = self._sequence(request_id)
        sequence.held = False
        sequence.compute_until = None
        if sequence.finish is None:
            # A cache of all tokens has no logits: the last token is computed again.
            sequence.num_cached = min(sequence.num_cached, len(sequence.tokens) - 1)

    def cancel(self, request_id: str) -> None:
        sequence = self._sequence(request_id)
        self._model.forget(sequence)
        del self._sequences[request_id]

    def step(self) -> list[OutputToken]:
        began_s = self._clock()
        generated: list[OutputToken] = []
        lagging: list[RunningSequence] = []
        decoding: list[RunningSequence] = []
        for sequence in self._sequences.values():
            lag = sequence.target - sequence.num_cached
            if lag == 1 and not sequence.held:
                decoding.append(sequence)
            elif lag > 0:
                lagging.append(sequence)
        if decoding:
            for sequence, chosen in zip(decoding, self._model.decode(decoding), strict=True):
                sequence.num_cached += 1
                generated.append(self._append(sequence, chosen))
        if lagging:
            generated += self._prefill(lagging)
        self._num_steps += 1
        self._step_s += self._clock() - began_s
        return generated

    @property
    def has_work(self) -> bool:
        return any(one.target > one.num_cached for one in self._sequences.values())

    def progress(self, request_id: str) -> Progress:
        return self._sequence(request_id).progress

    def output(self, request_id: str) -> tuple[int, ...]:
        sequence = self._sequence(request_id)
        return tuple(sequence.tokens[sequence.num_prompt :])

    def logprobs(self, request_id: str) -> bytes:
        return b"".join(self._sequence(request_id).records)

    def export_kv(self, request_id: str, begin: int, end: int) -> KVBlock:
        sequence = self._sequence(request_id)
        if not self.capabilities.exports_kv:
            raise BadStateError("this engine does not export its cache")
        if not 0 <= begin < end <= sequence.num_cached:
            raise BadStateError(
                f"positions [{begin}, {end}) are not among the {sequence.num_cached} cached"
            )
        return self._model.export_kv(sequence, begin, end)

    def import_kv(self, request_id: str, block: KVBlock) -> None:
        sequence = self._sequence(request_id)
        self._check_block(sequence, block)
        self._model.import_kv(sequence, block)
        sequence.num_cached = block.end

    def statistics(self) -> EngineStatistics:
        cached = sum(sequence.num_cached for sequence in self._sequences.values())
        return EngineStatistics(
            num_sequences=len(self._sequences),
            num_steps=self._num_steps,
            prefilled_tokens=self._prefilled_tokens,
            generated_tokens=self._generated_tokens,
            model_s=self._model.model_s,
            step_s=self._step_s,
            kv_bytes=cached * self.capabilities.kv_bytes_per_token,
        )

    def close(self) -> None:
        for request_id in list(self._sequences):
            self.cancel(request_id)
        self._closed = True
        self._model.close()

    def _sequence(self, request_id: str) -> RunningSequence:
        try:
            return self._sequences[request_id]
        except KeyError:
            raise UnknownSequenceError(f"no request {request_id} in the engine") from None

    def _prefill(self, lagging: list[RunningSequence]) -> list[OutputToken]:
        prefills: list[Prefill] = []
        budget = self._chunk_tokens
        for sequence in sorted(lagging, key=lambda one: one.held):  # stable: arrival order
            end = min(sequence.num_cached + budget, sequence.target)
            sample = end == len(sequence.tokens)  # False for a held sequence
            prefills.append(Prefill(sequence, end, sample))
            budget -= prefills[-1].num_tokens
            if budget == 0:
                break
        self._prefilled_tokens += self._chunk_tokens - budget
        chosen: dict[RunningSequence, Chosen | None] = {}
        for rows in passes(prefills):
            chosen.update(
                zip((row.sequence for row in rows), self._model.prefill(rows), strict=True)
            )
        generated = []
        for prefill in prefills:
            prefill.sequence.num_cached = prefill.end
            choice = chosen[prefill.sequence]
            if choice is not None:
                generated.append(self._append(prefill.sequence, choice))
        return generated

    def _append(self, sequence: RunningSequence, chosen: Chosen) -> OutputToken:
        token, record = chosen
        sequence.tokens.append(token)
        sequence.records.append(record)
        self._generated_tokens += 1
        sequence.finish = finish_of(sequence, self.capabilities.context_tokens)
        index = sequence.num_output - 1
        return OutputToken(sequence.spec.request_id, index, token, sequence.finish, record)

    def _check_block(self, sequence: RunningSequence, block: KVBlock) -> None:
        capabilities = self.capabilities
        if not capabilities.exports_kv:
            raise BadStateError("this engine does not import a cache")
        if not sequence.held:
            raise BadStateError(f"request {sequence.spec.request_id} is not held")
        if not 0 <= block.begin <= sequence.num_cached:
            raise BadStateError(
                f"a block from {block.begin} leaves a gap after {sequence.num_cached} cached tokens"
            )
        if not block.begin < block.end <= len(sequence.tokens):
            raise BadStateError(
                f"a block [{block.begin}, {block.end}) exceeds {len(sequence.tokens)} known tokens"
            )
        per_layer = capabilities.kv_bytes_per_token // self._model.num_layers
        expected = [(block.end - block.begin) * per_layer] * self._model.num_layers
        if [layer.nbytes for layer in block.layers] != expected:
            raise BadStateError(
                f"a block of {block.num_bytes} bytes in {len(block.layers)} layers does not fit "
                f"{capabilities.kv_layout}"
            )
