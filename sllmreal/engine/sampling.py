"""Choosing tokens: a function of the logits and of (seed, index), without a generator's state.

    greedy    the largest logit, the smallest token among equals
    sampled   p = softmax(logits / temperature) over the tokens that pass top_k and top_p,
              token = the first one whose cumulated p exceeds uniform(seed, index), by token id

Probabilities are float64. Order by id, not by probability: rounding then moves bounds by 1e-16 and
never reorders tokens of nearly equal probability. Of equal logits at the edge of top_k or top_p
the smaller ids pass.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sllmreal.engine.mixing import uniform
from sllmreal.engine.protocol import Sampling

_NUCLEUS_TOKENS = 512  # sorted first; most nuclei are smaller, and a whole vocabulary sorts slowly


@dataclass(frozen=True, slots=True)
class Draw:
    """How to choose one token: the rule, and the output index it is for."""

    sampling: Sampling
    index: int


def chosen_tokens(logits: torch.Tensor, draws: Sequence[Draw]) -> list[int]:
    """A token for each row of `logits`, (rows, vocabulary)."""
    tokens: list[int] = logits.argmax(-1).tolist()
    rows = [row for row, draw in enumerate(draws) if draw.sampling.temperature > 0]
    if rows:
        sampled = _sampled(
            logits if len(rows) == len(draws) else logits[rows], [draws[row] for row in rows]
        )
        for row, token in zip(rows, sampled, strict=True):
            tokens[row] = token
    return tokens


def _sampled(logits: torch.Tensor, draws: Sequence[Draw]) -> list[int]:
    temperatures = [draw.sampling.temperature for draw in draws]
    numbers = [uniform(draw.sampling.seed, draw.index) for draw in draws]
    column = torch.tensor([temperatures, numbers], dtype=torch.float64).to(logits.device)
    scaled = logits.double() / column[0, :, None]
    for row, draw in zip(scaled, draws, strict=True):
        _filter(row, draw.sampling)
    cumulated = scaled.softmax(-1).cumsum(-1)
    total = cumulated[:, -1:]
    threshold = torch.minimum(column[1, :, None] * total, total.nextafter(torch.zeros_like(total)))
    found: list[int] = torch.searchsorted(cumulated, threshold, right=True)[:, 0].tolist()
    return found


def _filter(logits: torch.Tensor, sampling: Sampling) -> None:
    """Set the logits that do not pass to minus infinity, in place."""
    if sampling.top_k is not None and sampling.top_k < len(logits):
        kth = logits.topk(sampling.top_k).values[-1]
        _drop_below(logits, kth, sampling.top_k)
    if sampling.top_p < 1:
        probabilities = logits.softmax(-1)
        for size in (min(_NUCLEUS_TOKENS, len(logits)), len(logits)):
            largest = probabilities.topk(size).values
            reached = torch.searchsorted(largest.cumsum(-1), sampling.top_p).item()
            if reached < size or size == len(logits):
                break
        num_kept = min(int(reached) + 1, size)
        kth = logits.topk(num_kept).values[-1]
        _drop_below(logits, kth, num_kept)


def _drop_below(logits: torch.Tensor, kth: torch.Tensor, num_kept: int) -> None:
    """Keep the `num_kept` largest, of those that equal the smallest of them the first ones."""
    above = logits > kth
    equal = logits == kth
    room = num_kept - above.sum()
    keep = above | (equal & (equal.cumsum(-1) <= room))
    logits.masked_fill_(~keep, -math.inf)
