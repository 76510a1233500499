"""The choice of tokens: a function of the logits and of (seed, index), without a generator's state.

    adjusted  the logits after bias and penalties (`sllmreal.engine.penalties`)
    greedy    the largest logit, the smallest token among equals
    sampled   p = exp((logits - largest) / temperature), in float64
              min_p: p of at least min_p remain;  top_k: of those the k largest;  top_p: of what
              remains, the fewest largest p that make up top_p of its sum;  of equal p at an edge
              the smaller tokens remain
              token = the first whose cumulated p, by token, exceeds uniform(seed, index) * sum

p is cumulated by token and not by rank: rounding then moves a token's bounds a little and never
changes the order of tokens that are nearly as likely.
"""

from collections.abc import Sequence

import numpy as np
import torch

from sllmreal.engine.mixing import uniform
from sllmreal.engine.penalties import Draw, adjusted_logits

_LIKELY = 1e-3  # less likely tokens seldom belong to a nucleus, and sorting them is slow


def chosen_tokens(logits: torch.Tensor, draws: Sequence[Draw]) -> list[int]:
    """Return a token for each row of `logits`, (rows, vocabulary)."""
    tokens = _largest(logits)
    others = [
        row
        for row, draw in enumerate(draws)
        if draw.sampling.temperature > 0 or draw.adjusts_logits
    ]
    if others:
        # Row by row: on a CPU one row's numbers stay in the cache, a batch's do not.
        found = torch.stack([_chosen(logits[row], draws[row]) for row in others]).tolist()
        for row, token in zip(others, found, strict=True):
            tokens[row] = token
    for row, draw in enumerate(draws):
        if draw.forced is not None:
            tokens[row] = draw.forced
    return tokens


def _chosen(logits: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Return a token, as a scalar, for a row that is sampled or adjusted."""
    if draw.adjusts_logits:
        logits = adjusted_logits(logits, draw)
    return _sampled(logits, draw) if draw.sampling.temperature > 0 else logits.argmax()


def _largest(logits: torch.Tensor) -> list[int]:
    tokens: list[int]
    if logits.device.type == "cpu":  # NumPy's argmax is 20 times as fast as torch's
        tokens = logits.float().numpy().argmax(-1).tolist()
    else:
        tokens = logits.argmax(-1).tolist()
    return tokens


def _sampled(logits: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Return a token, as a scalar."""
    sampling = draw.sampling
    likelihoods = logits.to(torch.float64, copy=True)
    likelihoods.sub_(likelihoods.amax()).div_(sampling.temperature).exp_()
    if sampling.min_p > 0:  # the largest is 1
        likelihoods.mul_(likelihoods >= sampling.min_p)
    if sampling.top_k is not None and sampling.top_k < len(likelihoods):
        least = likelihoods.topk(sampling.top_k).values[-1]
        _keep(likelihoods, least, sampling.top_k)
    if sampling.top_p < 1:
        _keep_nucleus(likelihoods, sampling.top_p)
    cumulated = likelihoods.cumsum_(-1)
    total = cumulated[-1]
    below_total = total.nextafter(torch.zeros_like(total))
    threshold = (total * uniform(sampling.seed, draw.index)).minimum(below_total)
    return torch.searchsorted(cumulated, threshold, right=True)


def _keep_nucleus(likelihoods: torch.Tensor, top_p: float) -> None:
    wanted = top_p * likelihoods.sum()
    for bound in (_LIKELY, 0.0):
        likely = _descending(likelihoods[likelihoods >= bound])
        num_kept = int((likely.cumsum(-1) < wanted).sum()) + 1
        if num_kept <= len(likely):
            _keep(likelihoods, likely[num_kept - 1], num_kept)
            return
    # By rounding, all of them together are below top_p of their sum: all remain.


def _descending(numbers: torch.Tensor) -> torch.Tensor:
    if numbers.device.type == "cpu":  # NumPy sorts ten times as fast as torch
        return torch.from_numpy(np.sort(numbers.numpy())).flip(0)
    return numbers.sort(descending=True).values


def _keep(likelihoods: torch.Tensor, least: torch.Tensor, num_kept: int) -> None:
    """Set all but the `num_kept` largest, the last of which is `least`, to zero, in place."""
    above = likelihoods > least
    equal = likelihoods == least
    keep = above | (equal & (equal.cumsum(-1) <= num_kept - above.sum()))
    likelihoods.mul_(keep)
