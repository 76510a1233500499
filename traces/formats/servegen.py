"""ServeGen: request rate and gap law of many clients per 10-minute window (alibaba/ServeGen).

Two encodings, Apache-2.0: the original `chunk-N-trace.csv`, one client per file, without a header
(window start in s, rate in 1/s, CV, Gamma or Weibull, shape, scale), with `chunk-N-dataset.json`
beside it for the lengths if there; and one table of all clients with the header `category, model,
client, timestamp_s, rate_rps, cv, pattern, shape, scale`. A window of rate r has round(600 r)
requests. A source is `model/client`. Windows of rate 0 may be left out. The earliest window of all
files is the first of the trace, which may be a slice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from traces.cells import number, seconds
from traces.errors import TraceError
from traces.formats.servegen_lengths import client_lengths
from traces.tables import Column, TableHeader, parsed_cell
from traces.text_source import TextSource
from traces.trace_format import TraceFormat
from traces.windows import GapLaw, LengthDraw, WindowCounts

WINDOW_S = 600.0
RAW_COLUMNS = ("timestamp_s", "rate_rps", "cv", "pattern", "shape", "scale")
TABLE_COLUMNS = ("model", "client", "timestamp_s", "rate_rps", "pattern", "shape")
_LAWS = {"": GapLaw.AS_ASKED, "Gamma": GapLaw.GAMMA, "Weibull": GapLaw.WEIBULL}


@dataclass(frozen=True, slots=True)
class _Window:
    client: str
    index: int
    count: int
    law: GapLaw
    shape: float


def is_raw_row(fields: Sequence[str]) -> bool:
    """Return True if line 1 is already data: six cells, the first two numbers."""
    try:
        seconds(fields[0])
        seconds(fields[1])
    except (ValueError, IndexError):
        return False
    return len(fields) == len(RAW_COLUMNS)


def read_counts(sources: Sequence[TextSource]) -> WindowCounts:
    """All clients of all files, on one clock."""
    windows: list[_Window] = []
    lengths: dict[str, LengthDraw] = {}
    for source in sources:
        table = source.csv_rows()
        first = next(table, None)
        if first is None:
            raise TraceError("the file is empty", source.path)
        if is_raw_row(first):
            client = _client_of(source)
            windows += _raw_windows(source, client, first, table)
            draw = client_lengths(source.path)
            if draw is not None:
                lengths[client] = draw
        else:
            windows += _table_windows(source, first, table)
    return _counts(windows, lengths)


def _client_of(source: TextSource) -> str:
    """`m-small/3` for `.../m-small/chunk-3-trace.csv`."""
    chunk = source.path.name.split(".")[0].removeprefix("chunk-").removesuffix("-trace")
    return f"{source.path.absolute().parent.name}/{chunk}"


def _raw_windows(
    source: TextSource, client: str, first: list[str], table: Iterator[list[str]]
) -> Iterator[_Window]:
    header = TableHeader(source, RAW_COLUMNS)
    row: list[str] | None = first
    while row is not None:
        header.check_width(row)
        yield from _window(source, header, client, row)
        row = next(table, None)


def _table_windows(
    source: TextSource, names: list[str], table: Iterator[list[str]]
) -> Iterator[_Window]:
    header = TableHeader(source, names)
    model, client = header.place("model"), header.place("client")
    for row in table:
        header.check_width(row)
        yield from _window(source, header, f"{row[model]}/{row[client]}", row)


def _window(
    source: TextSource, header: TableHeader, client: str, row: list[str]
) -> Iterator[_Window]:
    places = [header.place(column.name) for column in _COLUMNS]
    start_s, rate, law, shape = [row[place] for place in places]
    try:
        index = int(_window_start(start_s) // WINDOW_S)
        count, parsed_law, parsed_shape = round(seconds(rate) * WINDOW_S), _law(law), number(shape)
    except ValueError:
        for column in _COLUMNS:
            parsed_cell(source, header, column, row)
        raise
    if parsed_law is not GapLaw.AS_ASKED and parsed_shape <= 0 and count:
        raise source.error("expected a positive shape", "shape", shape)
    yield _Window(client, index, count, parsed_law, parsed_shape)


def _window_start(text: str) -> float:
    start_s = seconds(text)
    if start_s % WINDOW_S:
        raise ValueError(f"the start of a {WINDOW_S:g}-s window")
    return start_s


def _law(text: str) -> GapLaw:
    if text not in _LAWS:
        raise ValueError("Gamma, Weibull or nothing")
    return _LAWS[text]


def _one_by_one(cells: Sequence[str]) -> Sequence[object]:
    raise ValueError(f"{len(cells)} cells: this format is read row by row")


_COLUMNS = (
    Column("timestamp_s", _window_start, _one_by_one),
    Column("rate_rps", seconds, _one_by_one),
    Column("pattern", _law, _one_by_one),
    Column("shape", number, _one_by_one),
)


def _counts(windows: list[_Window], lengths: dict[str, LengthDraw]) -> WindowCounts:
    first = min((each.index for each in windows), default=0)
    windows = [each for each in windows if each.count]
    clients: dict[str, int] = {}
    for each in windows:
        clients.setdefault(each.client, len(clients))
    index = np.array([each.index for each in windows], np.int32)
    client = np.array([clients[each.client] for each in windows], np.int32)
    order = np.lexsort((client, index))
    return WindowCounts(
        sources=tuple(clients),
        window_s=WINDOW_S,
        num_windows=int(index.max()) + 1 if len(index) else 0,
        window=index[order],
        source=client[order],
        count=np.array([each.count for each in windows], np.int64)[order],
        law=np.array([each.law for each in windows], np.int8)[order],
        shape=np.array([each.shape for each in windows], np.float64)[order],
        lengths=lengths,
    ).since(first)


def _is_raw_line(source: TextSource, line: str) -> bool:
    try:
        return is_raw_row(source.cells(line))
    except TraceError:
        return False


FORMAT = TraceFormat(frozenset(TABLE_COLUMNS), counts=read_counts, recognises=_is_raw_line)
