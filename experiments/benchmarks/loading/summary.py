"""Text of the results: a line per measurement, and medians at the end.

Medians are over valid rows (`LoadingRow.valid`); the number of other rows is shown.
"""

from collections.abc import Sequence
from statistics import median

from experiments.benchmarks.loading.row import LoadingRow

_HEAD = (
    f"{'model':22} {'cache':16} {'loader':24} {'GB/s':>6} {'min':>6} {'max':>6} "
    f"{'of limit':>8} {'peak/size':>9} {'cached':>6} {'CPU s/GB':>8}"
)


def line(row: LoadingRow) -> str:
    """Return the line of a measurement."""
    text = (
        f"{row.model:22} {row.loader:24} {row.cache:16} {row.seconds:8.3f} s "
        f"{row.bytes_per_s / 1e9:7.2f} GB/s"
    )
    if row.ratio_to_limit is not None:
        text += f" {row.ratio_to_limit:5.2f} of the limit"
    if row.cached_share is not None:
        text += f", {100 * row.cached_share:.0f} % cached"
    if row.stolen_share:
        text += f", {100 * row.stolen_share:.0f} % stolen"
    return text if row.valid else f"{text}: left out"


def summary(rows: Sequence[LoadingRow]) -> str:
    """Return medians, minima and maxima by model, cache and loader."""
    lines = [_HEAD]
    for key in dict.fromkeys((row.model, row.cache, row.loader) for row in rows):
        same = [row for row in rows if (row.model, row.cache, row.loader) == key]
        counted = [row for row in same if row.valid]
        head = f"{key[0]:22} {key[1]:16} {key[2]:24}"
        left_out = len(same) - len(counted)
        note = f"  {left_out} of {len(same)} left out" if left_out else ""
        lines.append(f"{head} {_medians(counted) if counted else ''}{note}")
    media = dict.fromkeys(row.medium for row in rows)
    return "\n".join([*lines, f"measured on: {', '.join(media)}"])


def _medians(rows: Sequence[LoadingRow]) -> str:
    rates = [row.bytes_per_s / 1e9 for row in rows]
    shares = [row.ratio_to_limit for row in rows if row.ratio_to_limit is not None]
    peaks = [row.peak_rss_bytes / row.size_bytes for row in rows if row.peak_rss_bytes is not None]
    cached = [row.cached_share for row in rows if row.cached_share is not None]
    cpu = [1e9 * row.cpu_s / row.size_bytes for row in rows if row.cpu_s is not None]
    return (
        f"{median(rates):6.2f} {min(rates):6.2f} {max(rates):6.2f} "
        f"{_or_blank(shares, 8)} {_or_blank(peaks, 9)} {_or_blank(cached, 6)} {_or_blank(cpu, 8)}"
    )


def _or_blank(values: Sequence[float], width: int) -> str:
    return f"{median(values):{width}.2f}" if values else " " * width
