"""Logits with bias and penalties: a function of the logits, the tokens so far and the rule.

In vLLM's order, for a token t that occurs count(t) times in the output so far:

    bias         logit(t) + logit_bias[t]
    min_tokens   -inf for stop tokens at output indices below min_tokens
    repetition   logit(t) / r if it is positive, else logit(t) * r, for t in prompt or output
    frequency    logit(t) - frequency_penalty * count(t)
    presence     logit(t) - presence_penalty for count(t) > 0

Counts are taken from the tokens at each step and not kept, so that a sequence which continues on
another engine has the same ones.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sllmreal.engine.protocol import Sampling


@dataclass(frozen=True, slots=True)
class Draw:
    """The choice of one token: the rule, the output index, and what penalties depend on.

    `tokens` are prompt and output so far; they may be left out for a rule without penalties.
    """

    sampling: Sampling
    index: int
    tokens: Sequence[int] = ()
    num_prompt: int = 0
    stop_tokens: frozenset[int] = frozenset()
    forced: int | None = None  # the token that is chosen in any case

    @classmethod
    def of(
        cls, sampling: Sampling, tokens: Sequence[int], num_prompt: int, stop_tokens: frozenset[int]
    ) -> "Draw":
        """Return the draw of the token after `tokens`. Forced tokens count as of the prompt."""
        index = len(tokens) - num_prompt - len(sampling.forced)
        if index < 0:
            return cls(sampling, 0, forced=sampling.forced[index])
        return cls(sampling, index, tokens, num_prompt + len(sampling.forced), stop_tokens)

    @property
    def adjusts_logits(self) -> bool:
        """True if `adjusted_logits` differs from the logits."""
        return self.sampling.adjusts_logits and self.forced is None


def adjusted_logits(logits: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Return the adjusted logits in float64, of shape (vocabulary,) as the argument."""
    sampling, device = draw.sampling, logits.device
    adjusted = logits.to(torch.float64, copy=True)
    if sampling.logit_bias:
        tokens, biases = zip(*sampling.logit_bias, strict=True)
        places = torch.tensor(tokens, device=device)
        adjusted.index_add_(0, places, torch.tensor(biases, dtype=torch.float64, device=device))
    if draw.index < sampling.min_tokens:
        barred = [token for token in draw.stop_tokens if token < len(adjusted)]
        adjusted[torch.tensor(barred, dtype=torch.long, device=device)] = -torch.inf
    if sampling.repetition_penalty != 1:
        places = torch.tensor(sorted(set(draw.tokens)), dtype=torch.long, device=device)
        values = adjusted[places]
        penalty = sampling.repetition_penalty
        adjusted[places] = torch.where(values > 0, values / penalty, values * penalty)
    if sampling.frequency_penalty or sampling.presence_penalty:
        occurrences = Counter(draw.tokens[draw.num_prompt :])
        places = torch.tensor(list(occurrences), dtype=torch.long, device=device)
        counts = torch.tensor(list(occurrences.values()), dtype=torch.float64, device=device)
        adjusted[places] -= sampling.frequency_penalty * counts + sampling.presence_penalty
    return adjusted
