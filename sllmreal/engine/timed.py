"""An engine without a model: tokens by hashing, at a calibrated pace.

    state[p] = splitmix64(state[p - 1] ^ token[p]),   state[-1] from the model's name
    next token = splitmix64(state[last] ^ noise) mod vocabulary,
    noise = 0 when greedy, else splitmix64(splitmix64(seed) + output index)

The states are the cache. They come from the tokens before them alone, so that a token lost,
repeated or out of place changes everything after it, and a block of the wrong states is detected.
"""

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sllmcore.errors import UsageError
from sllmreal.engine.errors import BadStateError
from sllmreal.engine.kind import EngineKind, EngineModel
from sllmreal.engine.logprobs import packed_entries
from sllmreal.engine.mixing import splitmix64
from sllmreal.engine.model import Chosen
from sllmreal.engine.prefill import Prefill
from sllmreal.engine.protocol import Capabilities, Engine, KVBlock, Sampling
from sllmreal.engine.sequence import RunningSequence
from sllmreal.engine.slots import Clock, SlotEngine

_STATE_BYTES = 8


@dataclass(frozen=True, slots=True)
class Pace:
    """Emulated durations; a step that decodes b sequences: decode_step_s + b decode_sequence_s."""

    prefill_token_s: float = 0.0
    decode_step_s: float = 0.0
    decode_sequence_s: float = 0.0

    def __post_init__(self) -> None:
        if min(self.prefill_token_s, self.decode_step_s, self.decode_sequence_s) < 0:
            raise UsageError(f"a pace must not be negative, got {self}")


@dataclass(frozen=True, slots=True)
class TimedOptions:
    """The properties of a timed engine."""

    model: str = "timed"
    context_tokens: int = 4096
    num_slots: int = 8
    vocab_size: int = 32000
    num_layers: int = 2
    exports_kv: bool = True
    prefill_chunk_tokens: int = 256
    pace: Pace = Pace()

    def __post_init__(self) -> None:
        smallest = min(self.num_slots, self.vocab_size, self.num_layers)
        if smallest < 1 or self.context_tokens < 2:
            raise UsageError(f"sizes must be positive and a context at least 2, got {self}")


@dataclass(frozen=True, slots=True)
class TimedSettings:
    """Settings of a deployed timed engine: see `TimedOptions` and `Pace`."""

    vocab_size: int = 32000
    exports_kv: bool = True
    prefill_chunk_tokens: int = 256
    prefill_token_s: float = 0.0
    decode_step_s: float = 0.0
    decode_sequence_s: float = 0.0


def timed_engine(
    options: TimedOptions | None = None,
    *,
    sleep: Callable[[float], object] = time.sleep,
    clock: Clock = time.perf_counter,
) -> SlotEngine:
    """Return an engine that sleeps in `step` as long as a model would have computed."""
    chosen = options or TimedOptions()
    return SlotEngine(
        TimedModel(chosen, sleep), prefill_chunk_tokens=chosen.prefill_chunk_tokens, clock=clock
    )


class TimedModel:
    """The states of every sequence."""

    def __init__(self, options: TimedOptions, sleep: Callable[[float], object]) -> None:
        layers = options.num_layers if options.exports_kv else 0
        self.capabilities = Capabilities(
            model=options.model,
            context_tokens=options.context_tokens,
            num_slots=options.num_slots,
            vocab_size=options.vocab_size,
            exports_kv=options.exports_kv,
            kv_bytes_per_token=2 * _STATE_BYTES * layers,
            kv_layout=f"uint8, {layers} layers, 1 head, {_STATE_BYTES}",
        )
        self.num_layers = options.num_layers
        self.model_s = 0.0
        self._pace = options.pace
        self._sleep = sleep
        self._origin = splitmix64(zlib.crc32(options.model.encode()))
        self._states: dict[RunningSequence, list[int]] = {}

    def admit(self, sequence: RunningSequence) -> None:
        self._states[sequence] = []

    def forget(self, sequence: RunningSequence) -> None:
        del self._states[sequence]

    def prefill(self, rows: Sequence[Prefill]) -> list[Chosen | None]:
        self._pass(sum(row.num_tokens for row in rows) * self._pace.prefill_token_s)
        for row in rows:
            self._compute(row.sequence, row.end)
        return [self._next_token(row.sequence) if row.sample else None for row in rows]

    def decode(self, sequences: Sequence[RunningSequence]) -> list[Chosen]:
        self._pass(self._pace.decode_step_s + len(sequences) * self._pace.decode_sequence_s)
        for sequence in sequences:
            self._compute(sequence, len(sequence.tokens))
        return [self._next_token(sequence) for sequence in sequences]

    def export_kv(self, sequence: RunningSequence, begin: int, end: int) -> KVBlock:
        states = self._states[sequence][begin:end]
        return KVBlock(begin, end, self._layers(states))

    def import_kv(self, sequence: RunningSequence, block: KVBlock) -> None:
        states = self._chain(sequence, block.begin, block.end)
        if any(
            ours != theirs for ours, theirs in zip(self._layers(states), block.layers, strict=True)
        ):
            raise BadStateError(
                f"the block [{block.begin}, {block.end}) is not of the tokens of request "
                f"{sequence.spec.request_id}"
            )
        self._states[sequence][block.begin :] = states

    def close(self) -> None:
        self._states.clear()

    def _pass(self, duration_s: float) -> None:
        self.model_s += duration_s
        if duration_s > 0:
            self._sleep(duration_s)

    def _compute(self, sequence: RunningSequence, end: int) -> None:
        begin = sequence.num_cached
        self._states[sequence][begin:] = self._chain(sequence, begin, end)

    def _chain(self, sequence: RunningSequence, begin: int, end: int) -> list[int]:
        """Return the states of positions [begin, end), from the state before them."""
        state = self._states[sequence][begin - 1] if begin else self._origin
        chain = []
        for token in sequence.tokens[begin:end]:
            state = splitmix64(state ^ token)
            chain.append(state)
        return chain

    def _next_token(self, sequence: RunningSequence) -> Chosen:
        sampling = sequence.spec.sampling
        state = self._states[sequence][-1]
        if sequence.num_output < len(sampling.forced):
            return self._choice(sampling.forced[sequence.num_output], state, sampling)
        noise = 0
        if sampling.temperature > 0:
            noise = splitmix64(splitmix64(sampling.seed) + sequence.num_output)
        token = splitmix64(state ^ noise) % self.capabilities.vocab_size
        return self._choice(token, state, sampling)

    def _choice(self, token: int, state: int, sampling: Sampling) -> Chosen:
        """Return the token with log probabilities made from the state."""
        if sampling.logprobs is None:
            return Chosen(token)
        likeliest = [
            (state + rank) % self.capabilities.vocab_size for rank in range(sampling.logprobs)
        ]
        logprobs = [-(state % 4096) / 256, *(-rank / 2 for rank in range(sampling.logprobs))]
        return Chosen(token, packed_entries([token, *likeliest], logprobs))

    def _layers(self, states: list[int]) -> tuple[memoryview, ...]:
        """Yield per layer the states, then their bits rotated by the layer's number plus one."""
        keys = np.array(states, dtype="<u8")
        layers = []
        for shift in range(1, self.num_layers + 1):
            values = keys << np.uint64(shift % 64) | keys >> np.uint64(-shift % 64)
            layers.append(np.concatenate((keys, values)).view(np.uint8).data)
        return tuple(layers)


def _make(model: EngineModel, settings: TimedSettings) -> Engine:
    options = TimedOptions(
        model=model.name,
        context_tokens=model.context_tokens,
        num_slots=model.num_slots,
        vocab_size=settings.vocab_size,
        exports_kv=settings.exports_kv,
        prefill_chunk_tokens=settings.prefill_chunk_tokens,
        pace=Pace(settings.prefill_token_s, settings.decode_step_s, settings.decode_sequence_s),
    )
    return timed_engine(options)


TIMED = EngineKind(TimedSettings, _make, needs_weights=False, paced=True)
