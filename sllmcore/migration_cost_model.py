"""The cost of migrating a sequence by each strategy, learnt from finished migrations.

With n context tokens, k bytes of KV cache per token and a link of B bytes/s:

    replay   R(n) = a + n / p + c n^2       p tokens/s of prefill; c is attention's share
    copy     C(n) = b + n k / B
    hybrid   the destination computes the first r tokens and receives the cache of the others:
             R(r) = C(n - r),   H(n) = h R(r)

Where a, b and c are negligible, copying is faster than replaying if and only if

    B > p k       (the break-even bandwidth; 2 GB/s for 15,000 tokens/s and 128 KiB per token)

for every n. With c > 0, copying is faster from some n on. The hybrid is always the fastest by this
model, but it uses both the link and the destination's engine. It is chosen only if it saves
`hybrid_gain`; h is learnt from hybrid migrations.

Finished copies and replays train C and R (`sllmcore.curve`). Before its first migration a strategy
is judged by `MigrationRates`. Rates that are too high make sure that each strategy is tried.
"""

from dataclasses import dataclass
from enum import StrEnum

from sllmcore.curve import LearntCurve
from sllmcore.errors import UsageError

_SPAN_TOKENS = 4096.0  # contexts for which the first rates are assumed to hold
_LONGEST_TOKENS = 1 << 20


class Strategy(StrEnum):
    """The way of a sequence's KV cache to its destination: computed, copied, or both."""

    REPLAY = "replay"
    COPY = "copy"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class MigrationRates:
    """Rates before anything was measured. Defaults: a 7B model in fp16 on an A40, by roofline, and
    a link of 10 Gbit/s."""

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
        """Return the curve of R, untrained."""
        return LearntCurve(1.0 / self.prefill_tokens_per_s, self.replay_fixed_s, _SPAN_TOKENS)

    def copy_curve(self, kv_bytes_per_token: int) -> LearntCurve:
        """Return the curve of C, untrained."""
        token_s = kv_bytes_per_token / self.link_bytes_per_s
        return LearntCurve(token_s, self.copy_fixed_s, _SPAN_TOKENS)


# Faster than most, so that each strategy is tried: 100 Gbit/s, a 7B model on an H100.
OPTIMISTIC = MigrationRates(30_000.0, 12.5e9, 0.002, 0.002)


@dataclass(frozen=True, slots=True)
class StrategyChoice:
    """A strategy for one migration.

    Args:
        replay_tokens: The destination computes the tokens before this one and receives the cache of
            the others. None: it computes all; 0: it receives all.
        expected_s: Seconds from the start of the migration until the destination is ready.
    """

    strategy: Strategy
    replay_tokens: int | None
    expected_s: float


class MigrationCostModel:
    """The costs of migrating one model between one pair of servers.

    Args:
        kv_bytes_per_token: 0 where the cache cannot be copied.
        rates: Rates before the first migration.
        replay: The curve of R, shared with the model's other pairs; None: a curve of its own.
        smoothing: Weight of the newest migration, in (0, 1].
        hybrid_gain: Share of the faster strategy's time that a hybrid must save, in [0, 1).

    Raises:
        UsageError: A number is out of its range.
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
            raise UsageError(
                f"smoothing must be in (0, 1] and hybrid_gain in [0, 1), got {smoothing} and "
                f"{hybrid_gain}"
            )
        self._kv_bytes = kv_bytes_per_token
        self._smoothing = smoothing
        self._hybrid_gain = hybrid_gain
        self._replay = replay or rates.replay_curve()
        self._copy = rates.copy_curve(kv_bytes_per_token)
        self._hybrid_ratio = 1.0

    def replay_s(self, context_tokens: int) -> float:
        """Return R, in seconds."""
        return self._replay.at(context_tokens)

    def copy_s(self, context_tokens: int) -> float:
        """Return C, in seconds."""
        return self._copy.at(context_tokens)

    def hybrid_s(self, context_tokens: int) -> float:
        """Return H, in seconds."""
        return self._hybrid_ratio * self._overlapped_s(context_tokens)

    def break_even_bytes_per_s(self, context_tokens: int) -> float | None:
        """Return the bandwidth above which copying a context is faster than replaying it.

        None if copying takes longer even over an infinitely fast link.
        """
        left_s = self.replay_s(context_tokens) - self.copy_s(0)
        return context_tokens * self._kv_bytes / left_s if left_s > 0 else None

    @property
    def break_even_tokens(self) -> int | None:
        """The shortest context for which copying is faster, to a part in a thousand.

        None if copying is faster for one token already, or slower for up to a million tokens.
        """
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
        """Return the strategy that is expected to be the fastest."""
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
        """Learn from a finished migration that took `took_s` from its start to a ready destination.

        A migration of no tokens or of no time is ignored.
        """
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
        """Return the tokens to replay so that replaying them and copying the others take equally
        long."""
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
