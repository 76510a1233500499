"""Our draw as a vLLM logits processor: the token at an output index depends on (seed, index) only.

vLLM restarts a random generator per request, so a resumed request would draw other tokens. Here
every request is greedy for vLLM, and for one that is sampled, or whose logits are adjusted by a
bias, penalties or min_tokens, this processor leaves a single token
possible: the one that `sllmreal.engine.sampling` chooses from the same logits.
"""

from dataclasses import dataclass

import torch
from vllm.config import VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.interface import MoveDirectionality

from sllmreal.engine.penalties import Draw
from sllmreal.engine.protocol import Sampling
from sllmreal.engine.sampling import chosen_tokens

SAMPLING_KEY = "sllm_sampling"  # in SamplingParams.extra_args: a dict of Sampling's fields
FIRST_INDEX_KEY = "sllm_first_index"  # the output index of the first token that vLLM generates
STOP_TOKENS_KEY = "sllm_stop_tokens"  # a list


@dataclass(frozen=True, slots=True)
class _Row:
    """A request in the batch. `known` are its prompt and the output before vLLM's request."""

    sampling: Sampling
    first_index: int
    known: list[int]
    output: list[int]  # grows as vLLM generates
    stop_tokens: frozenset[int]

    @property
    def draw(self) -> Draw:
        num_prompt = len(self.known) - self.first_index
        return Draw.of(self.sampling, self.known + self.output, num_prompt, self.stop_tokens)


class SeededDraw(LogitsProcessor):  # type: ignore[misc]
    """Reduces the logits of sampled or adjusted requests to the one token that is chosen."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._rows: dict[int, _Row] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is None:
            return
        rows = self._rows
        for index in batch_update.removed:
            rows.pop(index, None)
        for index, params, known, output in batch_update.added:
            row = _row_of(params, known or [], output)
            if row is None:
                rows.pop(index, None)
            else:
                rows[index] = row
        for source, destination, direction in batch_update.moved:
            moved, replaced = rows.pop(source, None), rows.pop(destination, None)
            if moved is not None:
                rows[destination] = moved
            if replaced is not None and direction is MoveDirectionality.SWAP:
                rows[source] = replaced

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Keep one finite logit in each of our rows of `logits`, (rows, vocabulary)."""
        if not self._rows:
            return logits
        indices = sorted(self._rows)
        draws = [self._rows[index].draw for index in indices]
        tokens = torch.tensor(chosen_tokens(logits[indices], draws), device=logits.device)
        logits[indices] = float("-inf")
        logits[torch.tensor(indices, device=logits.device), tokens] = 0.0
        return logits


def _row_of(params: SamplingParams, known: list[int], output: list[int]) -> _Row | None:
    extra = params.extra_args or {}
    if SAMPLING_KEY not in extra:
        return None
    stop_tokens = frozenset(extra.get(STOP_TOKENS_KEY, ()))
    return _Row(
        sampling=Sampling(**extra[SAMPLING_KEY]),
        first_index=extra[FIRST_INDEX_KEY],
        known=known,
        output=output,
        stop_tokens=stop_tokens,
    )
