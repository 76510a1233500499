"""The table of a comparison, for a terminal or as plain text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from experiments.comparison.results import PolicyResult

if TYPE_CHECKING:
    from rich.table import Table

SMALL_S = 0.001  # smaller times are shown as <0.001


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of the table.

    Args:
        heading: Heading of up to two lines.
        cell: Returns the text for a policy.
    """

    heading: str
    cell: Callable[[PolicyResult], str]


def _seconds(name: str) -> Callable[[PolicyResult], str]:
    return lambda result: seconds(result.number(name))


def _count(name: str) -> Callable[[PolicyResult], str]:
    return lambda result: f"{result.number(name):,.0f}"


def _percent(part: str, *of: str) -> Callable[[PolicyResult], str]:
    def cell(result: PolicyResult) -> str:
        whole = sum(result.number(name) for name in of)
        return f"{100 * result.number(part) / whole:.1f}" if whole else "-"

    return cell


def _gpu(part: str) -> Callable[[PolicyResult], str]:
    return _percent(part, "gpu_busy_s", "gpu_loading_s", "gpu_idle_s")


def seconds(value: float) -> str:
    """Return seconds with three significant digits."""
    if abs(value) < SMALL_S:
        return "0" if value == 0 else f"<{SMALL_S:g}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


COLUMNS = (
    TableColumn("policy", lambda result: result.label),
    TableColumn("startup\nmean s", _seconds("startup_latency_s.mean")),
    TableColumn("\np50", _seconds("startup_latency_s.p50")),
    TableColumn("\np95", _seconds("startup_latency_s.p95")),
    TableColumn("\np99", _seconds("startup_latency_s.p99")),
    TableColumn("pause\nmax s", _seconds("pause_s.max")),
    TableColumn("timed\nout", _count("timed_out")),
    TableColumn("migra-\ntions", _count("migrations")),
    TableColumn("preemp-\ntions", _count("preemptions")),
    TableColumn("warm\n%", _percent("warm_starts", "requests")),
    TableColumn("loads\nDRAM", _count("loads.DRAM")),
    TableColumn("\nSSD", _count("loads.SSD")),
    TableColumn("\nremote", _count("loads.REMOTE")),
    TableColumn("GPU %\nbusy", _gpu("gpu_busy_s")),
    TableColumn("\nload", _gpu("gpu_loading_s")),
)


def _cold(result: PolicyResult) -> str:
    return f"{sum(result.number(f'loads.{tier}') for tier in ('REMOTE', 'SSD', 'DRAM')):,.0f}"


# Columns of a comparison with measured and predicted results.
MEASURED_COLUMNS = (
    *COLUMNS[:5],
    TableColumn("first token\nmean s", _seconds("ttft_s.mean")),
    TableColumn("\np50", _seconds("ttft_s.p50")),
    TableColumn("\np95", _seconds("ttft_s.p95")),
    TableColumn("\np99", _seconds("ttft_s.p99")),
    TableColumn("cold\nstarts", _cold),
    *COLUMNS[5:10],
)

NARROW_COLUMNS = (range(7), (0, *range(7, len(COLUMNS))))  # two tables, each with the policies
WIDE_CHARACTERS = 114  # width of all columns


def columns_for(results: Sequence[PolicyResult]) -> Sequence[TableColumn]:
    """Return the columns for results: those of measured ones if any is measured."""
    return MEASURED_COLUMNS if any(result.real for result in results) else COLUMNS


def print_table(title: str, results: Sequence[PolicyResult], stream: IO[str]) -> None:
    """Print the table: on a terminal by Rich (two tables if narrow), else as aligned text."""
    columns = columns_for(results)
    rows = [[column.cell(result) for column in columns] for result in results]
    if not stream.isatty():
        stream.write(plain_table(title, rows, columns))
        return
    from rich.console import Console

    console = Console(file=stream)
    console.print(f"\n{title}", style="bold", markup=False, highlight=False)
    wide = console.width >= WIDE_CHARACTERS
    for numbers in (range(len(columns)),) if wide else NARROW_COLUMNS:
        console.print(_rich_table([columns[i] for i in numbers], rows, numbers))


def _rich_table(
    columns: Sequence[TableColumn], rows: Sequence[Sequence[str]], numbers: Sequence[int]
) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        left = column.heading == "policy"
        table.add_column(column.heading, justify="left" if left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[i] for i in numbers))
    return table


def plain_table(
    title: str, rows: Sequence[Sequence[str]], columns: Sequence[TableColumn] = COLUMNS
) -> str:
    """Return aligned text: columns two blanks apart, numbers right-aligned."""
    headings = [("\n" + column.heading).split("\n")[-2:] for column in columns]
    lines = [[heading[0] for heading in headings], [heading[1] for heading in headings], *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    text = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join((title, "", *text, "")) + "\n"
