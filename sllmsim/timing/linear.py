"""Timing by a handful of coefficients.

    prefill(n) = prefill_fixed + max(prefill_floor, prefill_per_token n + prefill_per_token2 n^2)

The floor is the single read of the weights that even a short prompt needs. The quadratic term is
attention.
"""

from dataclasses import dataclass
from math import isfinite

from sllmcore.errors import UsageError
from sllmsim.timing.inference import check_step


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearTiming:
    """An `InferenceTiming` with a prefill that is at most quadratic."""

    fixed_s: float
    per_request_s: float = 0.0
    per_context_token_s: float = 0.0
    prefill_fixed_s: float = 0.0
    prefill_floor_s: float = 0.0
    prefill_per_token_s: float
    prefill_per_token2_s: float = 0.0  # s / token^2

    def __post_init__(self) -> None:
        check_step(self.fixed_s, self.per_request_s, self.per_context_token_s)
        for name in (
            "prefill_fixed_s",
            "prefill_floor_s",
            "prefill_per_token_s",
            "prefill_per_token2_s",
        ):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise UsageError(f"{name} must be finite and >= 0, got {value}")

    def prefill_s(self, tokens: int) -> float:
        """Return the seconds of a prefill of `tokens` tokens."""
        if tokens <= 0:
            return 0.0
        computed_s = tokens * (self.prefill_per_token_s + self.prefill_per_token2_s * tokens)
        return self.prefill_fixed_s + max(self.prefill_floor_s, computed_s)
