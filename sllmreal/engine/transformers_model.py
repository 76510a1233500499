"""A causal language model of transformers, behind a decode loop and a cache of our own.

A decode pass computes one token of every sequence of the batch; if their lengths differ, an
additive mask hides the positions after each one's end. A single sequence needs neither mask nor
copy. Sequences that begin together are prefilled together, and need no mask either: they are
causal.
"""

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sllmcore.errors import UsageError
from sllmreal.engine.cache import CacheShape, ProbeCache, RowCache
from sllmreal.engine.logprobs import packed_record
from sllmreal.engine.model import Chosen
from sllmreal.engine.penalties import Draw
from sllmreal.engine.prefill import Prefill
from sllmreal.engine.protocol import Capabilities, KVBlock
from sllmreal.engine.rows import Rows
from sllmreal.engine.sampling import chosen_tokens
from sllmreal.engine.sequence import RunningSequence

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Options of an engine's model. `model` is the identity of the weights."""

    model: str
    num_slots: int = 8
    context_tokens: int | None = None  # None: the model's own


class TransformersModel:
    """A model on one device and the caches of its sequences.

    Raises:
        UsageError: The family's cache is not one key and value per head and position.
    """

    def __init__(self, model: "PreTrainedModel", options: ModelOptions) -> None:
        context = _context_tokens(model, options.context_tokens)
        self._model: Any = model  # its outputs have no useful types
        self._device = model.device
        self.model_s = 0.0
        with torch.inference_mode():
            shape = self._probed()
            self._cache = RowCache(shape, options.num_slots, context)
        self._rows = Rows(options.num_slots)
        self._ahead = torch.arange(context, device=self._device)
        self._dtype = shape.dtype
        self.num_layers = shape.num_layers
        self.capabilities = Capabilities(
            model=options.model,
            context_tokens=context,
            num_slots=options.num_slots,
            vocab_size=int(self._model.config.vocab_size),
            exports_kv=True,
            kv_bytes_per_token=shape.token_bytes,
            kv_layout=shape.layout,
        )

    def admit(self, sequence: RunningSequence) -> None:
        self._rows.add(sequence)

    @torch.inference_mode()
    def forget(self, sequence: RunningSequence) -> None:
        self._cache.clear(self._rows[sequence])
        self._rows.remove(sequence)

    @torch.inference_mode()
    def prefill(self, rows: Sequence[Prefill]) -> list[Chosen | None]:
        if rows[0].begin:
            (row,) = rows
            return [self._continue(row)]
        lengths = [row.end for row in rows]
        longest = max(lengths)
        self._cache.open_fresh([self._rows[row.sequence] for row in rows], lengths)
        padded = [row.sequence.tokens[: row.end] + [0] * (longest - row.end) for row in rows]
        tokens = torch.tensor(padded, device=self._device)
        positions = self._ahead[None, :longest].expand(len(rows), longest)
        ends = sorted({row.end for row in rows if row.sample})
        if not ends:
            self._run(self._model.base_model, tokens, positions, None)
            return [None] * len(rows)
        kept = torch.tensor(ends, device=self._device) - 1
        logits = self._logits(tokens, positions, None, kept)
        sampled = [place for place, row in enumerate(rows) if row.sample]
        last = logits[sampled, [ends.index(rows[place].end) for place in sampled]]
        chosen = _chosen(last, [rows[place].sequence for place in sampled])
        by_place = dict(zip(sampled, chosen, strict=True))
        return [by_place.get(place) for place in range(len(rows))]

    def _continue(self, row: Prefill) -> Chosen | None:
        """Compute positions that see a cache before them."""
        begin, end = row.begin, row.end
        self._cache.open_rows(self._rows[row.sequence], 1, begin, end)
        tokens = torch.tensor([row.sequence.tokens[begin:end]], device=self._device)
        positions = self._ahead[None, begin:end]
        mask = self._causal_mask(begin, end) if end - begin > 1 else None
        if not row.sample:
            self._run(self._model.base_model, tokens, positions, mask)
            return None
        logits = self._logits(tokens, positions, mask)[:, -1]
        return _chosen(logits, [row.sequence])[0]

    @torch.inference_mode()
    def decode(self, sequences: Sequence[RunningSequence]) -> list[Chosen]:
        for change in self._rows.gathered(sequences):
            act = self._cache.swap if change.both else self._cache.move
            act(change.source, change.target)
        batch = sorted(sequences, key=self._rows.__getitem__)
        lengths = [len(sequence.tokens) for sequence in batch]
        end = max(lengths)
        if min(lengths) == end:
            positions = self._ahead[None, end - 1 : end].expand(len(batch), 1)
            self._cache.open_rows(0, len(batch), end - 1, end)
            mask = None
        else:
            last = torch.tensor(lengths, device=self._device) - 1
            positions = last[:, None]
            self._cache.open_ragged(last, end)
            mask = self._mask(positions[:, None], end)
        tokens = torch.tensor([[one.tokens[-1]] for one in batch], device=self._device)
        logits = self._logits(tokens, positions, mask)[:, -1]
        chosen = _chosen(logits, batch)
        return [chosen[self._rows[sequence]] for sequence in sequences]

    @torch.inference_mode()
    def export_kv(self, sequence: RunningSequence, begin: int, end: int) -> KVBlock:
        return self._cache.exported(self._rows[sequence], begin, end)

    @torch.inference_mode()
    def import_kv(self, sequence: RunningSequence, block: KVBlock) -> None:
        self._cache.insert(self._rows[sequence], block)

    def close(self) -> None:
        self._cache.close()
        self._model = None

    def _logits(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
        kept: torch.Tensor | int = 1,
    ) -> torch.Tensor:
        """Return the logits of each row's kept or last places: (rows, kept, vocabulary)."""
        some = functools.partial(self._model, logits_to_keep=kept)
        logits: torch.Tensor = self._run(some, tokens, positions, mask).logits
        return logits

    def _run(
        self,
        module: Callable[..., Any],
        tokens: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> Any:
        began_s = time.perf_counter()
        output = module(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
        )
        if self._device.type == "cuda":  # the caller waits for the tokens anyway
            torch.cuda.synchronize(self._device)
        self.model_s += time.perf_counter() - began_s
        return output

    def _causal_mask(self, begin: int, end: int) -> torch.Tensor:
        """Return the mask of positions [begin, end) of one row: (1, 1, end - begin, end)."""
        mask = torch.zeros((1, 1, end - begin, end), dtype=self._dtype, device=self._device)
        hidden = self._ahead[begin:end] > self._ahead[begin:end, None]
        mask[..., begin:].masked_fill_(hidden, -math.inf)
        return mask

    def _mask(self, last: torch.Tensor, end: int) -> torch.Tensor:
        """Return minus infinity after the last visible position: of shape (last..., end)."""
        hidden = self._ahead[:end] > last[..., None]
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=self._device)
        return mask.masked_fill_(hidden, -math.inf)

    def _probed(self) -> CacheShape:
        """Return the shape of the model's cache, from a forward pass of one token."""
        cache = ProbeCache()
        token = torch.zeros((1, 1), dtype=torch.long, device=self._device)
        self._model(input_ids=token, position_ids=token, past_key_values=cache, use_cache=True)
        first, *others = (tensor for pair in cache.written for tensor in pair)
        if any(other.shape != first.shape for other in others):
            raise UsageError(f"the layers of {type(self._model).__name__} cache unequal shapes")
        _, num_heads, _, head_dim = first.shape
        num_layers = len(cache.written)
        return CacheShape(
            num_layers=num_layers,
            num_heads=num_heads,
            head_dim=head_dim,
            dtype=first.dtype,
            device=first.device,
        )


def _chosen(logits: torch.Tensor, sequences: Sequence[RunningSequence]) -> list[Chosen]:
    """Choose a token for each row of `logits`, (rows, vocabulary)."""
    tokens = chosen_tokens(logits, [_draw(sequence) for sequence in sequences])
    return [
        Chosen(token, packed_record(logits[row], token, sequences[row].spec.sampling))
        for row, token in enumerate(tokens)
    ]


def _draw(sequence: RunningSequence) -> Draw:
    spec = sequence.spec
    return Draw.of(spec.sampling, sequence.tokens, sequence.num_prompt, spec.stop_tokens)


def _context_tokens(model: "PreTrainedModel", wanted: int | None) -> int:
    config: Any = model.config
    longest = int(config.max_position_embeddings)
    if wanted is not None and not 2 <= wanted <= longest:
        raise UsageError(f"context_tokens must be in [2, {longest}], got {wanted}")
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise UsageError(f"only full attention is supported, got {sorted(kinds)}")
    if getattr(config, "alibi", False):
        raise UsageError("ALiBi position biases are not supported")
    return wanted or longest
