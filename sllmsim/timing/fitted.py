"""Timing measured on a machine: a table of prefill times and three fitted step coefficients.

Prefill is linear between two points of the table. Before the first point it takes the first point's
time, because a prompt costs at least one pass over the weights. After the last point it continues
with the last slope.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

from sllmcore.errors import UsageError
from sllmsim.timing.inference import check_step

_STEP_KEYS = ("fixed_s", "per_request_s", "per_context_token_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedTiming:
    """An `InferenceTiming` from a table: `prefill_tokens[i]` tokens took `prefill_seconds[i]`."""

    fixed_s: float
    per_request_s: float
    per_context_token_s: float
    prefill_tokens: tuple[int, ...]
    prefill_seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        check_step(self.fixed_s, self.per_request_s, self.per_context_token_s)
        if len(self.prefill_tokens) != len(self.prefill_seconds) or len(self.prefill_tokens) < 2:
            raise UsageError("a prefill table needs at least two points of (tokens, seconds)")
        if self.prefill_tokens[0] < 1 or self.prefill_seconds[0] <= 0:
            raise UsageError("a prefill table starts at 1 token or more, and above 0 seconds")
        if not all(a < b for a, b in pairwise(self.prefill_tokens)):
            raise UsageError(f"prefill tokens must increase, got {self.prefill_tokens}")
        if not all(a <= b for a, b in pairwise(self.prefill_seconds)):
            raise UsageError(f"prefill seconds must not decrease, got {self.prefill_seconds}")

    def prefill_s(self, tokens: int) -> float:
        """Return the seconds of a prefill of `tokens` tokens."""
        if tokens <= 0:
            return 0.0
        if tokens <= self.prefill_tokens[0]:
            return self.prefill_seconds[0]
        right = min(bisect_right(self.prefill_tokens, tokens), len(self.prefill_tokens) - 1)
        left_tokens, left_s = self.prefill_tokens[right - 1], self.prefill_seconds[right - 1]
        slope = (self.prefill_seconds[right] - left_s) / (self.prefill_tokens[right] - left_tokens)
        return left_s + slope * (tokens - left_tokens)


def fitted_timing(table: Mapping[str, object]) -> FittedTiming:
    """Return a timing from its table.

    The table is `{prefill: [[tokens, seconds], ...], step: {fixed_s, per_request_s,
    per_context_token_s}}`.

    Raises:
        UsageError: A key is missing, unknown or wrong; the message names it.
    """
    _check_keys("timing", table, ("prefill", "step"))
    step, prefill = table["step"], table["prefill"]
    if not isinstance(step, Mapping):
        raise UsageError(f"step must be a mapping, got {step!r}")
    _check_keys("step", step, _STEP_KEYS)
    points = [_point(row) for row in _rows(prefill)]
    return FittedTiming(
        fixed_s=_number("fixed_s", step["fixed_s"]),
        per_request_s=_number("per_request_s", step["per_request_s"]),
        per_context_token_s=_number("per_context_token_s", step["per_context_token_s"]),
        prefill_tokens=tuple(tokens for tokens, _ in points),
        prefill_seconds=tuple(seconds for _, seconds in points),
    )


def _check_keys(where: str, table: Mapping[str, object], keys: tuple[str, ...]) -> None:
    if set(table) != set(keys):
        raise UsageError(f"{where} must have the keys {', '.join(keys)}, got {sorted(table)}")


def _rows(prefill: object) -> Sequence[object]:
    if not isinstance(prefill, Sequence) or isinstance(prefill, str):
        raise UsageError(f"prefill must be a list of [tokens, seconds], got {prefill!r}")
    return prefill


def _point(row: object) -> tuple[int, float]:
    if not isinstance(row, Sequence) or isinstance(row, str) or len(row) != 2:
        raise UsageError(f"a prefill point must be [tokens, seconds], got {row!r}")
    tokens = _number("prefill tokens", row[0])
    if not tokens.is_integer():
        raise UsageError(f"prefill tokens must be whole, got {tokens}")
    return int(tokens), _number("prefill seconds", row[1])


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise UsageError(f"{name} must be a finite number, got {value!r}")
    return float(value)
