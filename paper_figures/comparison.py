"""comparison.csv: each published number beside ours."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from paper_figures.published import Published, published_cells
from paper_figures.results import RESULTS, read_results
from paper_figures.statistics import (
    FIRM_RATIO,
    LOOSE_RATIO,
    Band,
    Estimate,
    estimate,
    ratio_band,
    reach,
    verdict,
)

POINTS = 0.1  # allowed difference of a share
COLUMNS = (
    *("figure", "cell", "published", "grade", "ours", "low_95", "high_95", "ratio", "reach"),
    *("verdict", "seeds", "note"),
)


@dataclass(frozen=True, slots=True)
class ComparedNumber:
    """A published number and our values of it, one per seed."""

    published: Published
    values: tuple[float, ...]

    @property
    def ours(self) -> Estimate:
        """The median of our values and its 95 % interval."""
        return estimate(self.values)

    @property
    def ratio(self) -> float:
        """Our median over the published number."""
        return self.ours.value / self.published.value

    @property
    def band(self) -> Band:
        """The range in which ours agrees: 10 points around a share, a ratio around others."""
        value = self.published.value
        if self.published.points:
            return Band(value - POINTS, value + POINTS)
        return ratio_band(value, FIRM_RATIO if self.published.firm else LOOSE_RATIO)

    @property
    def reach(self) -> str:
        """The distance of our median, whatever its interval."""
        if self.published.points:
            return "within 10 points" if self.ours.value in self.band else "off"
        return reach(self.ours.value, self.published.value)

    @property
    def verdict(self) -> str:
        """The result of the comparison (`statistics.verdict`)."""
        return verdict(self.values, self.band)


def compared_numbers(folder: Path = RESULTS) -> Iterator[ComparedNumber]:
    """Yield the published numbers for which results are stored in `folder`."""
    for published in published_cells():
        results = read_results(published.results, folder)
        if results is None:
            continue
        if published.under is None:
            ours = results.values(published.measure, **published.labels)
        else:
            ours = results.ratios(published.measure, published.labels, published.under)
        yield ComparedNumber(published, tuple(ours))


def csv_text(rows: Iterable[ComparedNumber]) -> str:
    """Return the content of comparison.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        numbers = (row.ours.value, row.ours.low, row.ours.high, row.ratio)
        shown = [f"{number:.4g}" for number in numbers]
        source = row.published
        head = (source.figure, source.cell, f"{source.value:g}", source.grade)
        tail = (row.reach, row.verdict, len(row.values), source.note)
        writer.writerow([*head, *shown, *tail])
    return text.getvalue()
