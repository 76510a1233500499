"""The rounds of a live migration, and the gap at which its source holds. Used by both drivers.

A round sends what the destination lacks, while the workload at the source goes on, and ends when
the destination has it ready. The gap is the work that the source did during the round. It measures,
in units of work (tokens), how long the client would wait for a round with the source held. The
source holds and sends the last gap when

    gap <= final_gap, or the gaps no longer shrink, or max_rounds is reached

Gaps shrink while each is at most `shrink` times the least before it plus one unit, and at least one
unit less than it. A gap that grows but is at most `small_gap` counts as a hiccup of a machine: one
more round costs no more than the hiccup did. Rounds are finite: there are at most `max_rounds`.
"""

from dataclasses import dataclass

from sllmcore.errors import UsageError


@dataclass(frozen=True, slots=True)
class RoundSettings:
    """The rule by which a source holds. Gaps are in units of work: tokens, of a language model.

    The numbers are chosen, not fitted; `results/migration` has the pauses that they give.

    Args:
        final_gap: A gap of this size or less is the last: a round of one forward pass seldom leaves
            less.
        shrink: Largest ratio of a gap to the least gap before it that counts as shrinking. Ten
            such rounds leave 3 % of the first gap.
        small_gap: A gap that one forward pass computes in about the time of one token.
        max_rounds: Most rounds while the workload runs.
    """

    final_gap: int = 2
    shrink: float = 0.7
    small_gap: int = 16
    max_rounds: int = 10

    def __post_init__(self) -> None:
        if self.max_rounds < 1:
            raise UsageError(f"max_rounds must be at least 1, got {self.max_rounds}")
        if self.final_gap < 0 or self.small_gap < 0:
            raise UsageError(f"final_gap and small_gap must not be negative, got {self}")
        if not 0 < self.shrink <= 1:
            raise UsageError(f"shrink must be in (0, 1], got {self.shrink}")


class MigrationRounds:
    """The rounds of one migration, of which the first is under way.

    Attributes:
        num_rounds: Rounds begun. The last gap, sent while the workload holds, is not a round.
    """

    __slots__ = ("_least_gap", "_settings", "num_rounds")

    def __init__(self, settings: RoundSettings) -> None:
        self._settings = settings
        self._least_gap: int | None = None
        self.num_rounds = 1

    def end(self, gap: int) -> bool:
        """End the round under way, which left `gap`. Return True if this gap is the last one.

        If not, another round begins that sends it.
        """
        is_last = self._is_last(gap)
        if not is_last:
            self.num_rounds += 1
        self._least_gap = gap if self._least_gap is None else min(gap, self._least_gap)
        return is_last

    def _is_last(self, gap: int) -> bool:
        settings, least = self._settings, self._least_gap
        if gap <= settings.final_gap or self.num_rounds >= settings.max_rounds:
            return True
        if least is None or least < gap <= settings.small_gap:
            return False
        return gap > min(least - 1, settings.shrink * least + 1)
