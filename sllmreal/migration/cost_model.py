"""Which strategy moves an inference soonest, from rates that finished migrations teach.

With n context tokens, p tokens/s of prefill at the destination, k bytes of KV cache per token and a
link of B bytes/s:

    replay   T = a + n / p
    copy     T = b + n k / B
    hybrid   the destination computes the first r tokens while the cache of the others comes:
             r = n / (1 + p k / B),   T = max(a, b) + r / p

so copying beats replaying, where the fixed parts a and b do not matter, if and only if

    B > p k       (the break-even bandwidth; 2 GB/s for 15,000 tokens/s and 128 KiB per token)

whatever n is. With them, the break-even is at n* = (a - b) / (k / B - 1 / p) tokens. Hybrid would
always be the soonest, but it loads link and destination both: it has to gain `hybrid_gain`.

Rates are learnt by exponential smoothing, in seconds per token and per byte, which average as times
do; a replay teaches the first, a copy the second, and a hybrid neither, for its parts overlap.
"""

from dataclasses import dataclass
from enum import StrEnum

from sllmcore.errors import UsageError


class Strategy(StrEnum):
    REPLAY = "replay"
    COPY = "copy"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class MigrationRates:
    """What is believed before anything was measured: a 7B model in fp16 on an A40 by roofline,
    and a 10 Gbit/s link."""

    prefill_tokens_per_s: float = 7_000.0
    link_bytes_per_s: float = 1.25e9
    replay_fixed_s: float = 0.01
    copy_fixed_s: float = 0.01

    def __post_init__(self) -> None:
        if self.prefill_tokens_per_s <= 0 or self.link_bytes_per_s <= 0:
            raise UsageError(f"rates must be positive, got {self}")
        if min(self.replay_fixed_s, self.copy_fixed_s) < 0:
            raise UsageError(f"times must not be negative, got {self}")


@dataclass(frozen=True, slots=True)
class Choice:
    """How to move: `replay_tokens` as in `Terms`, and how long it should take."""

    strategy: Strategy
    replay_tokens: int | None
    expected_s: float


class MigrationCostModel:
    """Of one model between one pair of places.

    Args:
        kv_bytes_per_token: 0 where the cache cannot be copied.
        smoothing: Weight of the newest migration, in (0, 1].
        hybrid_gain: What a hybrid must save of the better one's time to be chosen, in [0, 1).
    """

    def __init__(
        self,
        kv_bytes_per_token: int,
        rates: MigrationRates | None = None,
        smoothing: float = 0.2,
        hybrid_gain: float = 0.25,
    ) -> None:
        if kv_bytes_per_token < 0:
            raise UsageError(f"kv_bytes_per_token must not be negative, got {kv_bytes_per_token}")
        if not 0 < smoothing <= 1 or not 0 <= hybrid_gain < 1:
            raise UsageError(f"smoothing in (0, 1], hybrid_gain in [0, 1), got {smoothing}")
        believed = rates or MigrationRates()
        self._kv_bytes = kv_bytes_per_token
        self._smoothing = smoothing
        self._hybrid_gain = hybrid_gain
        self._token_s = 1.0 / believed.prefill_tokens_per_s
        self._byte_s = 1.0 / believed.link_bytes_per_s
        self._replay_fixed_s = believed.replay_fixed_s
        self._copy_fixed_s = believed.copy_fixed_s

    @property
    def rates(self) -> MigrationRates:
        """What is believed at present."""
        return MigrationRates(
            1.0 / self._token_s, 1.0 / self._byte_s, self._replay_fixed_s, self._copy_fixed_s
        )

    def replay_s(self, context_tokens: int) -> float:
        return self._replay_fixed_s + context_tokens * self._token_s

    def copy_s(self, context_tokens: int) -> float:
        return self._copy_fixed_s + context_tokens * self._kv_bytes * self._byte_s

    def hybrid_s(self, context_tokens: int) -> float:
        fixed_s = max(self._replay_fixed_s, self._copy_fixed_s)
        return fixed_s + self.hybrid_split(context_tokens) * self._token_s

    @property
    def break_even_bytes_per_s(self) -> float:
        """The link from which on copying a long context is sooner than replaying it."""
        return self._kv_bytes / self._token_s

    @property
    def break_even_tokens(self) -> float | None:
        """The context at which both take equally long; None where one is always sooner."""
        slope = self._kv_bytes * self._byte_s - self._token_s
        fixed_s = self._replay_fixed_s - self._copy_fixed_s
        return fixed_s / slope if slope != 0 and fixed_s / slope > 0 else None

    def choose(self, context_tokens: int) -> Choice:
        """The strategy for a context of so many tokens."""
        replay = Choice(Strategy.REPLAY, None, self.replay_s(context_tokens))
        if self._kv_bytes == 0:
            return replay
        copy = Choice(Strategy.COPY, 0, self.copy_s(context_tokens))
        better = replay if replay.expected_s <= copy.expected_s else copy
        split, hybrid_s = self.hybrid_split(context_tokens), self.hybrid_s(context_tokens)
        if split > 0 and hybrid_s < better.expected_s * (1.0 - self._hybrid_gain):
            return Choice(Strategy.HYBRID, split, hybrid_s)
        return better

    def observe(self, strategy: Strategy, context_tokens: int, took_s: float) -> None:
        """Learn from a finished migration: from its preparation to the destination's readiness."""
        if context_tokens < 1 or took_s <= 0:
            return
        match strategy:
            case Strategy.REPLAY:
                newest_s = max(0.0, took_s - self._replay_fixed_s) / context_tokens
                self._token_s = self._smoothed(self._token_s, newest_s)
            case Strategy.COPY if self._kv_bytes > 0:
                num_bytes = context_tokens * self._kv_bytes
                newest_s = max(0.0, took_s - self._copy_fixed_s) / num_bytes
                self._byte_s = self._smoothed(self._byte_s, newest_s)
            case _:
                return

    def hybrid_split(self, context_tokens: int) -> int:
        """Tokens to replay so that replaying them and copying the others end together."""
        copied_s = self._kv_bytes * self._byte_s
        return round(context_tokens * copied_s / (copied_s + self._token_s))

    def _smoothed(self, known: float, newest: float) -> float:
        # A migration that seems to take no time says only that it was too short to tell.
        return max(known + self._smoothing * (newest - known), known * 1e-3)
