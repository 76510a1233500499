"""Which strategy moves an inference soonest, from what finished migrations teach.

With n context tokens, k bytes of KV cache per token and a link of B bytes/s:

    replay   R(n) = a + n / p + c n^2       p tokens/s of prefill; c is attention's share
    copy     C(n) = b + n k / B
    hybrid   the destination computes the first r tokens while the cache of the others comes:
             R(r) = C(n - r),   H(n) = h R(r)

so where the fixed parts and c do not matter, copying beats replaying if and only if

    B > p k       (the break-even bandwidth; 2 GB/s for 15,000 tokens/s and 128 KiB per token)

whatever n is, and with c it always does from some n on. Hybrid would always be the soonest, but it
loads link and destination both: it has to gain `hybrid_gain`, and h is learnt from hybrids.

Copies and replays teach C and R (`sllmcore.curve`). Until a strategy was tried it is believed in:
believe too well of it, and it will be tried where it matters.
"""

from dataclasses import dataclass
from enum import StrEnum

from sllmcore.curve import LearntCurve
from sllmcore.errors import UsageError

_SPAN_TOKENS = 4096.0  # what a belief is about
_LONGEST_TOKENS = 1 << 20


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

    def replay_curve(self) -> LearntCurve:
        return LearntCurve(1.0 / self.prefill_tokens_per_s, self.replay_fixed_s, _SPAN_TOKENS)

    def copy_curve(self, kv_bytes_per_token: int) -> LearntCurve:
        token_s = kv_bytes_per_token / self.link_bytes_per_s
        return LearntCurve(token_s, self.copy_fixed_s, _SPAN_TOKENS)


# Better than most, so that each strategy is tried: 100 Gbit/s, a 7B model on an H100.
HOPEFUL = MigrationRates(30_000.0, 12.5e9, 0.002, 0.002)


@dataclass(frozen=True, slots=True)
class StrategyChoice:
    """How to move: `replay_tokens` as in `Terms`, and how long it should take."""

    strategy: Strategy
    replay_tokens: int | None
    expected_s: float


class MigrationCostModel:
    """Of one model between one pair of places.

    Args:
        kv_bytes_per_token: 0 where the cache cannot be copied.
        rates: What is believed at first.
        replay: How replaying was learnt to be, and goes on to be; None: as is believed.
        smoothing: Weight of the newest migration, in (0, 1].
        hybrid_gain: What a hybrid must save of the better one's time to be chosen, in [0, 1).
    """

    def __init__(
        self,
        kv_bytes_per_token: int,
        rates: MigrationRates = MigrationRates(),
        replay: LearntCurve | None = None,
        smoothing: float = 0.2,
        hybrid_gain: float = 0.25,
    ) -> None:
        if kv_bytes_per_token < 0:
            raise UsageError(f"kv_bytes_per_token must not be negative, got {kv_bytes_per_token}")
        if not 0 < smoothing <= 1 or not 0 <= hybrid_gain < 1:
            raise UsageError(f"smoothing in (0, 1], hybrid_gain in [0, 1), got {smoothing}")
        self._kv_bytes = kv_bytes_per_token
        self._smoothing = smoothing
        self._hybrid_gain = hybrid_gain
        self._replay = replay or rates.replay_curve()
        self._copy = rates.copy_curve(kv_bytes_per_token)
        self._hybrid_ratio = 1.0

    def replay_s(self, context_tokens: int) -> float:
        return self._replay.at(context_tokens)

    def copy_s(self, context_tokens: int) -> float:
        return self._copy.at(context_tokens)

    def hybrid_s(self, context_tokens: int) -> float:
        return self._hybrid_ratio * self._overlapped_s(context_tokens)

    def break_even_bytes_per_s(self, context_tokens: int) -> float | None:
        """The link from which on copying so long a context is sooner than replaying it; None where
        it takes longer to begin with."""
        left_s = self.replay_s(context_tokens) - self.copy_s(0)
        return context_tokens * self._kv_bytes / left_s if left_s > 0 else None

    @property
    def break_even_tokens(self) -> int | None:
        """The shortest context, to a part in a thousand, from which on copying is sooner, up to a
        million tokens; None where it is at once, or never."""
        shorter, longer = 1, 2
        if self.copy_s(shorter) <= self.replay_s(shorter):
            return None
        while self.copy_s(longer) > self.replay_s(longer):
            shorter, longer = longer, 2 * longer
            if longer > _LONGEST_TOKENS:
                return None
        while longer - shorter > max(1, longer // 1000):
            middle = (shorter + longer) // 2
            if self.copy_s(middle) > self.replay_s(middle):
                shorter = middle
            else:
                longer = middle
        return longer

    def choose(self, context_tokens: int) -> StrategyChoice:
        """The strategy for a context of so many tokens."""
        replay = StrategyChoice(Strategy.REPLAY, None, self.replay_s(context_tokens))
        if self._kv_bytes == 0:
            return replay
        copy = StrategyChoice(Strategy.COPY, 0, self.copy_s(context_tokens))
        better = replay if replay.expected_s <= copy.expected_s else copy
        split, hybrid_s = self.hybrid_split(context_tokens), self.hybrid_s(context_tokens)
        if 0 < split < context_tokens and hybrid_s < better.expected_s * (1.0 - self._hybrid_gain):
            return StrategyChoice(Strategy.HYBRID, split, hybrid_s)
        return better

    def observe(self, strategy: Strategy, context_tokens: int, took_s: float) -> None:
        """Learn from a finished migration: from its preparation to the destination's readiness."""
        if context_tokens < 1 or took_s <= 0:
            return
        match strategy:
            case Strategy.REPLAY:
                self._replay.add(context_tokens, took_s, 1.0 - self._smoothing)
            case Strategy.COPY:
                self._copy.add(context_tokens, took_s, 1.0 - self._smoothing)
            case Strategy.HYBRID:
                newest = took_s / self._overlapped_s(context_tokens)
                self._hybrid_ratio += self._smoothing * (newest - self._hybrid_ratio)

    def hybrid_split(self, context_tokens: int) -> int:
        """Tokens to replay so that replaying them and copying the others end together."""
        least, most = 0, context_tokens
        while least < most:
            middle = (least + most) // 2
            if self.replay_s(middle) < self.copy_s(context_tokens - middle):
                least = middle + 1
            else:
                most = middle
        return least

    def _overlapped_s(self, context_tokens: int) -> float:
        split = self.hybrid_split(context_tokens)
        return max(self.replay_s(split), self.copy_s(context_tokens - split))
