"""An `Engine` over vLLM's `EngineCore`: sequences are vLLM requests, one step is one of the core's.

    released    a request with all known tokens as its prompt generates the rest
    held        a *filling* request computes the known tokens; it generates one token, which is
                dropped, and is paused
    hold        the sequence's request is paused
    release     a paused request whose tokens are unchanged goes on; otherwise all known tokens are
                submitted: full blocks come from the prefix cache, the last, partial one from a
                copy in host memory, the *shelf*

A paused request is outside of the scheduler's running list and keeps its blocks. Correctness never
depends on the prefix cache: what it has lost is computed again. The core's scheduler is synchronous
(no batch queue), so that between two steps nothing is under way.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.core import EngineCore
from vllm.v1.request import Request, RequestStatus

from sllmcore.errors import UsageError
from sllmreal.engine.errors import (
    BadStateError,
    EngineLostError,
    NoSlotError,
    UnknownSequenceError,
)
from sllmreal.engine.logprobs import absent_record, packed_entries
from sllmreal.engine.protocol import (
    Capabilities,
    EngineStatistics,
    KVBlock,
    OutputToken,
    Progress,
    Sampling,
    SequenceSpec,
)
from sllmreal.engine.sequence import (
    RunningSequence,
    check_continued,
    check_spec,
    finish_of,
    records_of,
)
from sllmreal.engine.vllm.kv_landing import SHELVES, Shelf
from sllmreal.engine.vllm.kv_layout import joined, parted, read_positions
from sllmreal.engine.vllm.sampling import FIRST_INDEX_KEY, SAMPLING_KEY, STOP_TOKENS_KEY


@dataclass(slots=True, eq=False)
class _VllmSequence:
    """A sequence and the vLLM request that computes it, if one does."""

    sequence: RunningSequence
    request: Request | None = None
    fills: int | None = None  # how many known tokens the request computes; None: it generates
    paused: bool = False
    shelf: Shelf | None = None
    num_submitted: int = 0


class VllmEngine:
    """An `Engine` over a vLLM `EngineCore`.

    Args:
        core: With a synchronous scheduler; its connector is `KvLanding` where KV is exported.
        capabilities: The capabilities of the model as it runs here.
    """

    def __init__(self, core: EngineCore, capabilities: Capabilities) -> None:
        self.capabilities: Capabilities = capabilities
        self._core = core
        self._sequences: dict[str, _VllmSequence] = {}
        self._by_request: dict[str, _VllmSequence] = {}  # by vLLM request id
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
        self._sequences[spec.request_id] = _VllmSequence(sequence)

    def extend(self, request_id: str, tokens: Sequence[int], logprobs: bytes = b"") -> None:
        entry = self._entry(request_id)
        sequence = entry.sequence
        check_continued(sequence, tokens, self.capabilities)
        records = records_of(sequence.spec, len(tokens), logprobs)
        if tokens and entry.paused and entry.fills is None:
            self._shelve(entry)  # vLLM's request would go on with its own tokens
        sequence.tokens.extend(tokens)
        sequence.records.extend(records)
        sequence.finish = finish_of(sequence, self.capabilities.context_tokens)

    def hold(self, request_id: str) -> Progress:
        entry = self._entry(request_id)
        entry.sequence.held = True
        request = entry.request
        if request is not None and entry.fills is None and not entry.paused:
            if request.status == RequestStatus.RUNNING:
                self._pause(entry)
            else:  # waiting, or preempted: it has no blocks
                self._abort(entry)
                entry.sequence.num_cached = 0
        return entry.sequence.progress

    def release(self, request_id: str) -> None:
        entry = self._entry(request_id)
        sequence = entry.sequence
        sequence.held = False
        sequence.compute_until = None
        if sequence.finish is not None:
            return
        # A cache that reaches to the end has no logits with it: the last token goes again.
        sequence.num_cached = min(sequence.num_cached, len(sequence.tokens) - 1)
        if entry.fills is not None:
            self._shelve(entry)
        elif entry.paused:
            self._core.scheduler.running.append(entry.request)
            entry.paused = False

    def cancel(self, request_id: str) -> None:
        self._abort(self._entry(request_id))
        del self._sequences[request_id]

    def step(self) -> list[OutputToken]:
        began_s = time.perf_counter()
        generated: list[OutputToken] = []
        for entry in self._sequences.values():
            if self._due(entry):
                self._submit(entry)
        if any(not entry.paused for entry in self._by_request.values()):
            lags = {
                id(e): e.sequence.target - e.sequence.num_cached for e in self._by_request.values()
            }
            outputs, _ = self._core.step()
            for output in outputs[0].outputs if outputs and 0 in outputs else ():
                entry_or_none = self._by_request.get(output.request_id)
                if entry_or_none is not None:
                    generated += self._taken(entry_or_none, output)
            for entry in self._by_request.values():
                self._note_computed(entry, prefilling=lags[id(entry)] > 1)
        self._num_steps += 1
        self._step_s += time.perf_counter() - began_s
        return generated

    @property
    def has_work(self) -> bool:
        return any(
            (entry.request is not None and not entry.paused) or self._due(entry)
            for entry in self._sequences.values()
        )

    def progress(self, request_id: str) -> Progress:
        return self._entry(request_id).sequence.progress

    def output(self, request_id: str) -> tuple[int, ...]:
        sequence = self._entry(request_id).sequence
        return tuple(sequence.tokens[sequence.num_prompt :])

    def logprobs(self, request_id: str) -> bytes:
        return b"".join(self._entry(request_id).sequence.records)

    def export_kv(self, request_id: str, begin: int, end: int) -> KVBlock:
        entry = self._entry(request_id)
        if not self.capabilities.exports_kv:
            raise BadStateError("this engine does not export its cache")
        if not 0 <= begin < end <= entry.sequence.num_cached:
            raise BadStateError(
                f"positions [{begin}, {end}) are not among the {entry.sequence.num_cached} cached"
            )
        if entry.request is None:
            raise BadStateError(f"request {request_id} has no cache on the device")
        layers = self._read(entry.request, begin, end)
        return KVBlock(begin, end, tuple(joined(keys, values) for keys, values in layers))

    def import_kv(self, request_id: str, block: KVBlock) -> None:
        entry = self._entry(request_id)
        sequence = entry.sequence
        self._check_block(sequence, block)
        self._shelve(entry)
        num_tokens = block.end - block.begin
        shape = self._kv_caches()[0].shape
        layers = [
            parted(layer, (shape[1], num_tokens, shape[3] // 2), self._kv_caches()[0].dtype)
            for layer in block.layers
        ]
        if entry.shelf is not None and entry.shelf.begin <= block.begin <= entry.shelf.end:
            entry.shelf.put(block.begin, layers)
        else:
            entry.shelf = Shelf(block.begin, layers)
        sequence.num_cached = block.end

    def statistics(self) -> EngineStatistics:
        cached = sum(entry.sequence.num_cached for entry in self._sequences.values())
        return EngineStatistics(
            num_sequences=len(self._sequences),
            num_steps=self._num_steps,
            prefilled_tokens=self._prefilled_tokens,
            generated_tokens=self._generated_tokens,
            model_s=self._step_s,  # vLLM does not report its forward passes apart
            step_s=self._step_s,
            kv_bytes=cached * self.capabilities.kv_bytes_per_token,
        )

    def close(self) -> None:
        for request_id in list(self._sequences):
            self.cancel(request_id)
        self._closed = True
        self._core.shutdown()

    def _entry(self, request_id: str) -> _VllmSequence:
        try:
            return self._sequences[request_id]
        except KeyError:
            raise UnknownSequenceError(f"no request {request_id} in the engine") from None

    @staticmethod
    def _due(entry: _VllmSequence) -> bool:
        """Return whether known tokens are neither computed nor about to be."""
        idle = entry.request is None or (entry.paused and entry.fills is not None)
        return idle and entry.sequence.target > entry.sequence.num_cached

    def _submit(self, entry: _VllmSequence) -> None:
        """Give vLLM a request for all that is known, to generate from it or to compute it only."""
        self._shelve(entry)
        sequence = entry.sequence
        entry.num_submitted += 1
        request_id = f"{sequence.spec.request_id}#{entry.num_submitted}"
        known = list(sequence.tokens)
        if sequence.held:
            entry.fills = sequence.target
            known = known[: sequence.target]
            # Two tokens at most: with the first one it is paused, so the second never comes.
            params = SamplingParams(max_tokens=2, temperature=0.0, ignore_eos=True)
        else:
            params = self._params(sequence)
        if entry.shelf is not None:
            SHELVES[request_id], entry.shelf = entry.shelf, None
        hasher = self._core.request_block_hasher
        entry.request = Request(request_id, known, params, None, block_hasher=hasher)
        self._by_request[request_id] = entry
        self._core.add_request(entry.request)

    @staticmethod
    def _params(sequence: RunningSequence) -> SamplingParams:
        spec = sequence.spec
        extra: dict[str, Any] | None = None
        if spec.sampling.temperature > 0 or spec.sampling.adjusts_logits:
            extra = {
                SAMPLING_KEY: asdict(spec.sampling),
                FIRST_INDEX_KEY: sequence.num_output,
                STOP_TOKENS_KEY: list(spec.stop_tokens),
            }
        # A stop token among the forced ones is no end; `finish_of` finds those after them.
        forced = sequence.num_output < len(spec.sampling.forced)
        return SamplingParams(
            max_tokens=spec.max_output_tokens - sequence.num_output,
            temperature=0.0,
            ignore_eos=True,
            stop_token_ids=[] if forced else sorted(spec.stop_tokens),
            logprobs=spec.sampling.logprobs,
            detokenize=False,
            extra_args=extra,
        )

    def _taken(self, entry: _VllmSequence, output: Any) -> list[OutputToken]:
        """Process what a step generated for one request."""
        if output.finish_reason is not None and not output.new_token_ids:
            raise EngineLostError(f"vLLM ended {output.request_id}: {output.finish_reason}")
        sequence = entry.sequence
        if entry.fills is not None:
            self._pause(entry)
            return []
        generated = []
        for place, token in enumerate(output.new_token_ids):
            record = _record(output, place, sequence.spec.sampling)
            sequence.tokens.append(token)
            sequence.records.append(record)
            self._generated_tokens += 1
            sequence.finish = finish_of(sequence, self.capabilities.context_tokens)
            index = sequence.num_output - 1
            request_id = sequence.spec.request_id
            generated.append(OutputToken(request_id, index, token, sequence.finish, record))
            if sequence.finish is not None:
                break
        if sequence.finish is not None:
            sequence.num_cached = len(sequence.tokens) - 1
            self._abort(entry)
        return generated

    def _note_computed(self, entry: _VllmSequence, *, prefilling: bool) -> None:
        """Note how many of a sequence's known tokens vLLM has computed."""
        assert entry.request is not None
        sequence = entry.sequence
        if entry.request.status == RequestStatus.PREEMPTED:  # vLLM has taken its blocks
            sequence.num_cached = 0
            return
        limit = len(sequence.tokens) if entry.fills is None else entry.fills
        computed = min(int(entry.request.num_computed_tokens), limit)
        if prefilling:
            self._prefilled_tokens += max(0, computed - sequence.num_cached)
        sequence.num_cached = max(sequence.num_cached, computed)

    def _pause(self, entry: _VllmSequence) -> None:
        self._core.scheduler.running.remove(entry.request)
        entry.paused = True

    def _shelve(self, entry: _VllmSequence) -> None:
        """End the request that holds a sequence's cache, keeping what its last block holds.

        Full blocks stay in the prefix cache, a partial one would be lost.
        """
        request = entry.request
        if request is None:
            return
        computed = min(int(request.num_computed_tokens), entry.fills or len(entry.sequence.tokens))
        begin = computed - computed % self._core.vllm_config.cache_config.block_size
        has_blocks = request.status == RequestStatus.RUNNING
        if self.capabilities.exports_kv and has_blocks and begin < computed:
            entry.shelf = Shelf(begin, self._read(request, begin, computed))
        self._abort(entry)

    def _abort(self, entry: _VllmSequence) -> None:
        request, entry.request = entry.request, None
        entry.paused, entry.fills = False, None
        if request is not None:
            del self._by_request[request.request_id]
            SHELVES.pop(request.request_id, None)
            self._core.abort_requests([request.request_id])

    def _read(
        self, request: Request, begin: int, end: int
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        manager = self._core.scheduler.kv_cache_manager
        [blocks] = manager.get_block_ids(request.request_id)
        return [read_positions(cache, blocks, begin, end) for cache in self._kv_caches()]

    def _kv_caches(self) -> list[torch.Tensor]:
        runner = self._core.model_executor.driver_worker.worker.model_runner
        caches: list[torch.Tensor] = runner.kv_caches
        return caches

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
                f"a block [{block.begin}, {block.end}) of {len(sequence.tokens)} known tokens"
            )
        num_layers = len(self._kv_caches())
        per_layer = capabilities.kv_bytes_per_token // num_layers
        expected = [(block.end - block.begin) * per_layer] * num_layers
        if [layer.nbytes for layer in block.layers] != expected:
            raise BadStateError(
                f"a block of {block.num_bytes} bytes in {len(block.layers)} layers does not fit "
                f"{capabilities.kv_layout}"
            )


def _record(output: Any, place: int, sampling: Sampling) -> bytes:
    """Return the record of an output token. vLLM lists the token itself first, then the likeliest.

    Its log probabilities are those before logits processors, its default `raw_logprobs`.
    """
    if sampling.logprobs is None:
        return b""
    if output.new_logprobs is None:
        return absent_record(sampling)
    num_entries = 1 + sampling.logprobs
    tokens = output.new_logprobs.logprob_token_ids[place][:num_entries]
    values = output.new_logprobs.logprobs[place][:num_entries]
    return packed_entries([int(token) for token in tokens], [float(value) for value in values])
