"""`comparison.csv`: each published number beside ours."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from paper_figures.published import Published, published_cells
from paper_figures.results import RESULTS, read_results
from paper_figures.statistics import Estimate, verdict

POINTS = 0.1  # how far a share may be off
COLUMNS = (
    *("figure", "cell", "published", "grade", "ours", "low_95", "high_95", "ratio", "verdict"),
    *("seeds", "note"),
)


@dataclass(frozen=True, slots=True)
class Compared:
    """A published number and ours."""

    published: Published
    ours: Estimate
    num_seeds: int

    @property
    def ratio(self) -> float:
        return self.ours.value / self.published.value

    @property
    def verdict(self) -> str:
        if self.published.points:
            off = abs(self.ours.value - self.published.value)
            return "within 10 points" if off <= POINTS else "off"
        return verdict(self.ours, self.published.value, firm=self.published.firm)


def compared(folder: Path = RESULTS) -> Iterator[Compared]:
    """All published numbers for which there are results."""
    for published in published_cells():
        results = read_results(published.results, folder)
        if results is None:
            continue
        if published.under is None:
            ours = results.estimate(published.measure, **published.labels)
        else:
            ours = results.ratio(published.measure, published.labels, published.under)
        yield Compared(published, ours, len(results.measured(**published.labels)))


def csv_text(rows: Iterable[Compared]) -> str:
    """As the file has it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        numbers = (row.ours.value, row.ours.low, row.ours.high, row.ratio)
        shown = [f"{number:.4g}" for number in numbers]
        source = row.published
        head = (source.figure, source.cell, f"{source.value:g}", source.grade)
        writer.writerow([*head, *shown, row.verdict, row.num_seeds, source.note])
    return text.getvalue()
