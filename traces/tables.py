"""CSV tables, read by column name in blocks of lines.

Names of columns match in any case and with any punctuation: `Request tokens` is `request_tokens`.

A block in which all cells can be parsed costs about 1 us a row. Any other block is parsed line by
line, so that the error names line, column and value.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

from traces.errors import TraceError
from traces.rows import RowBatch, TraceRow
from traces.text_source import TextSource


@dataclass(frozen=True, slots=True)
class Column:
    """A column that a format needs, with the parsers of one cell and of many."""

    name: str
    parse: Callable[[str], object]
    parse_many: Callable[[Sequence[str]], Sequence[object]]


def folded(name: str) -> str:
    """Return a name without case and punctuation."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


class TableHeader:
    """The column names in line 1, in any order.

    Raises:
        TraceError: A name appears twice.
    """

    def __init__(self, source: TextSource, names: Sequence[str]) -> None:
        self.names = tuple(name.strip() for name in names)
        self._source = source
        seen: set[str] = set()
        for name in self.names:
            if name in seen:
                raise source.error("the column appears twice", name)
            seen.add(name)

    def has(self, name: str) -> bool:
        """Return True if there is such a column."""
        return folded(name) in map(folded, self.names)

    def place(self, name: str) -> int:
        """Return the index of a column.

        Raises:
            TraceError: The column is missing.
        """
        if name in self.names:
            return self.names.index(name)
        wanted = folded(name)
        places = [place for place, each in enumerate(self.names) if folded(each) == wanted]
        if len(places) > 1:
            both = " and ".join(self.names[place] for place in places)
            raise self._source.error(f"{both} are the same column but for their case", name)
        if not places:
            known = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
            raise self._source.error(f"the column is missing; the file has {known}", name)
        return places[0]

    def check_width(self, cells: Sequence[str]) -> None:
        """Raise TraceError if a line has more or fewer cells than the header."""
        if len(cells) != len(self.names):
            problem = f"{len(cells)} cells under a header of {len(self.names)} columns"
            raise self._source.error(problem)


# Values of the requested columns, in the requested order -> a row per value.
RowBuilder = Callable[[Sequence[Sequence[object]]], list[TraceRow]]


def table_batches(
    source: TextSource, columns: Sequence[Column], build: RowBuilder
) -> Iterator[RowBatch]:
    """Yield all rows of a table with a header.

    Raises:
        TraceError: The file is empty, lacks a column, or has a wrong line or cell.
    """
    blocks = source.blocks()
    first = next(blocks, None)
    if first is None:
        raise TraceError("the file is empty", source.path)
    header = TableHeader(source, source.cells(first[0]))
    places = [header.place(column.name) for column in columns]
    for lines in blocks:
        rows = _fast_rows(source.delimiter, lines, header, places, columns, build=build)
        if rows is None:
            yield _slow_batch(source, lines, header, columns, build)
        else:
            last = source.line_number
            yield RowBatch(rows, range(last - len(lines) + 1, last + 1))


def _fast_rows(
    delimiter: str,
    lines: list[str],
    header: TableHeader,
    places: list[int],
    columns: Sequence[Column],
    *,
    build: RowBuilder,
) -> list[TraceRow] | None:
    """Return the rows of a block; None if it has a blank or ragged line, a quote or a bad cell."""
    width = len(header.names)
    text = "".join(lines)
    if '"' in text or set(map(str.count, lines, repeat(delimiter))) != {width - 1}:
        return None
    # A flat list of all cells takes half the time of csv.reader, which makes a list per line and so
    # triggers the garbage collector.
    cells = text.removesuffix("\n").replace("\n", delimiter).split(delimiter)
    try:
        pairs = zip(columns, places, strict=True)
        return build([column.parse_many(cells[place::width]) for column, place in pairs])
    except ValueError:
        return None


def _slow_batch(
    source: TextSource,
    lines: list[str],
    header: TableHeader,
    columns: Sequence[Column],
    build: RowBuilder,
) -> RowBatch:
    rows: list[TraceRow] = []
    numbers: list[int] = []
    for line_number, line in enumerate(lines, start=source.line_number - len(lines) + 1):
        source.line_number = line_number
        cells = source.cells(line)
        if cells:
            header.check_width(cells)
            values = [parsed_cell(source, header, column, cells) for column in columns]
            rows += build([[value] for value in values])
            numbers.append(line_number)
    return RowBatch(rows, numbers)


def parsed_cell(
    source: TextSource, header: TableHeader, column: Column, cells: Sequence[str]
) -> object:
    """Return the value of a cell.

    Raises:
        TraceError: The cell is wrong; the error has its line, column and value.
    """
    cell = cells[header.place(column.name)]
    try:
        return column.parse(cell)
    except ValueError as error:
        raise source.error(f"expected {error}", column.name, cell) from None
