"""The time of decode iterations: linear in batch and context, with a closed form for many of them.

With B requests and C tokens of context in all, an iteration takes

    step(B, C) = fixed + per_request B + per_context_token C

and adds one token to each context. Iteration i = 0..n-1 thus has C + i B tokens, and n of them take

    S(n) = n step(B, C) + per_context_token B n (n - 1) / 2

The simulator evaluates S once per change of the batch, not once per token.
"""

from math import isfinite, sqrt
from typing import Protocol

from sllmcore.errors import UsageError


class InferenceTiming(Protocol):
    """The true speed of a model on its GPUs. `fixed_s` is positive, the others not negative."""

    @property
    def fixed_s(self) -> float: ...

    @property
    def per_request_s(self) -> float: ...

    @property
    def per_context_token_s(self) -> float: ...

    def prefill_s(self, tokens: int) -> float:
        """Return the seconds to compute the KV cache of a prompt alone on the GPUs; 0.0 for none.

        Must not decrease with `tokens`.
        """
        ...


def step_s(timing: InferenceTiming, batch: int, context_tokens: int) -> float:
    """Return the seconds of a decode iteration over `batch` requests, `context_tokens` in all."""
    return (
        timing.fixed_s + timing.per_request_s * batch + timing.per_context_token_s * context_tokens
    )


def iterations_s(
    timing: InferenceTiming, num_iterations: float, batch: int, context_tokens: int
) -> float:
    """Return S(n) in seconds, for iterations of which the first has `context_tokens` in all.

    A fraction of an iteration interpolates along S. Requires `context_tokens >= batch`: otherwise S
    may decrease near n = 0.
    """
    per_token_s = timing.per_context_token_s
    tokens = context_tokens + 0.5 * batch * (num_iterations - 1.0)
    return num_iterations * (timing.fixed_s + timing.per_request_s * batch + per_token_s * tokens)


def iterations_done(
    timing: InferenceTiming, elapsed_s: float, batch: int, context_tokens: int
) -> float:
    """Return n with S(n) = `elapsed_s`, with its fractional part: the inverse of `iterations_s`.

    With a = per_context_token B / 2 and b = step(B, C) - a, the root of a n^2 + b n = t is
    2 t / (b + sqrt(b^2 + 4 a t)). This form neither cancels nor divides by a when a is small. A
    caller that rounds down must allow for an error of a few 1e-16 n at whole iterations.
    """
    per_token_s = timing.per_context_token_s
    a = 0.5 * per_token_s * batch
    b = timing.fixed_s + timing.per_request_s * batch + per_token_s * context_tokens - a
    return 2.0 * elapsed_s / (b + sqrt(b * b + 4.0 * a * elapsed_s))


def check_step(fixed_s: float, per_request_s: float, per_context_token_s: float) -> None:
    """Check the coefficients of an `InferenceTiming`.

    Raises:
        UsageError: `fixed_s` is not positive, or another one is negative.
    """
    if not (isfinite(fixed_s) and fixed_s > 0):
        raise UsageError(f"fixed_s must be positive and finite, got {fixed_s}")
    if not (isfinite(per_request_s) and per_request_s >= 0):
        raise UsageError(f"per_request_s must be finite and >= 0, got {per_request_s}")
    if not (isfinite(per_context_token_s) and per_context_token_s >= 0):
        raise UsageError(f"per_context_token_s must be finite and >= 0, got {per_context_token_s}")
