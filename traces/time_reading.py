"""The unit of a trace's times: as asked, as the format has it, or as the stamps themselves show.

The first rows are read in advance. If their stamps are counts since 1970, these decide the unit.
Otherwise the format decides, and a rate or fractions that contradict it are noted in the report.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from traces.report import TraceReport
from traces.rows import RowBatch
from traces.time_unit import PER_SECOND, TimeUnit, epoch_unit

# No LLM service in a public trace has more; the busiest (Azure 2024) has 45/s in the mean.
MAX_LIKELY_RPS = 100.0
# Stamps in whole seconds; those with fractions may be sparser (Bailian's smallest trace: 38 s).
MAX_LIKELY_GAP_S = 30.0
MAX_LIKELY_FRACTION_GAP_S = 300.0
_SAMPLE_ROWS = 2048


@dataclass(frozen=True, slots=True)
class _Sample:
    """The stamps of the first rows, as they are in the file."""

    stamps: tuple[float, ...]
    names_models: bool

    @property
    def mean_gap(self) -> float | None:
        """Mean gap between stamps; None for fewer than three rows."""
        if len(self.stamps) < 3:
            return None
        return (max(self.stamps) - min(self.stamps)) / (len(self.stamps) - 1)

    @property
    def has_fractions(self) -> bool:
        """True if a stamp is no whole number."""
        return any(stamp != int(stamp) for stamp in self.stamps)


def settled_unit(
    usual: TimeUnit,
    batches: Callable[[], Iterator[RowBatch]],
    path: object,
    report: TraceReport,
    *,
    is_common: bool,
) -> TimeUnit:
    """Return the unit of a trace in a format with the unit `usual`, and note what is unusual.

    Args:
        batches: Reads the first file with its stamps as they are.
        path: Name of that file, for notes.
        is_common: Other formats have the same fields in another unit.
    """
    sample = _sample(batches())
    if not sample.stamps:
        return usual
    since_1970 = epoch_unit(sample.stamps[0])
    if since_1970 is not None:
        if since_1970 != usual:
            report.note(
                f"{path}: times are read as {since_1970} since 1970, because of the first one, "
                f"{sample.stamps[0]:.0f} (workload.time_unit=... overrides)"
            )
        return since_1970
    doubt = _doubt(usual, sample)
    if doubt is not None:
        report.note(f"{path}: times are read as {usual}, but {doubt}")
    elif is_common:
        other = "ms" if usual == "s" else "s"
        report.note(
            f"{path}: times are read as {usual}; other tools write the same fields in {other} "
            f"(workload.time_unit={other})"
        )
    return usual


def _sample(batches: Iterator[RowBatch]) -> _Sample:
    stamps: list[float] = []
    named = False
    for batch in batches:
        stamps += [row.at_s for row in batch.rows]
        named = named or any(row.source for row in batch.rows)
        if len(stamps) >= _SAMPLE_ROWS:
            break
    return _Sample(tuple(stamps), named)


def _doubt(unit: TimeUnit, sample: _Sample) -> str | None:
    """Return why the stamps are perhaps in another unit; None if nothing suggests it."""
    gap_s = None if sample.mean_gap is None else sample.mean_gap / PER_SECOND[unit]
    most_s = MAX_LIKELY_FRACTION_GAP_S if sample.has_fractions else MAX_LIKELY_GAP_S
    other = _likelier_unit(unit, sample.mean_gap)
    remedy = f"if they are in {other}, set workload.time_unit={other}"
    if gap_s and gap_s < 1 / MAX_LIKELY_RPS and unit != "s":
        return f"that makes {1 / gap_s:.4g} requests/s: {remedy}"
    if gap_s and gap_s > most_s and unit == "s":
        return f"that makes a request every {gap_s:.4g} s: {remedy}"
    # Exported workloads have fractions too, and name their models.
    if unit != "s" and sample.has_fractions and not sample.names_models:
        return "they have fractions: if they are in s, set workload.time_unit=s"
    return None


def _likelier_unit(unit: TimeUnit, gap: float | None) -> TimeUnit:
    """Return another unit, if possible one in which the gap is likely."""
    others: list[TimeUnit] = [each for each in PER_SECOND if each != unit]
    likely = (
        each
        for each in others
        if gap and 1 / MAX_LIKELY_RPS <= gap / PER_SECOND[each] <= MAX_LIKELY_GAP_S
    )
    return next(likely, others[0])
