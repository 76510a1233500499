"""Detection of a file's format from its first line."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from traces.cells import seconds
from traces.errors import TraceError
from traces.formats import table
from traces.formats.table import guessed_columns, guessed_lengths
from traces.refused import refusal
from traces.registry import FORMATS
from traces.tables import TableHeader, folded
from traces.text_source import TextSource
from traces.trace_format import TraceFormat

_USUAL_LINES = "mooncake"  # reads, or refuses by field, JSON lines with a timestamp


@dataclass(frozen=True, slots=True)
class _FirstLine:
    """The first line of a file, and the columns or fields in it: none if it has another form."""

    source: TextSource
    text: str
    names: tuple[str, ...]
    is_json: bool


def detect_format(path: Path | str) -> str:
    """Return the name of a file's format.

    Built-in formats come first: others are imported only if none of them fits. A table with usual
    names of columns comes last.

    Raises:
        TraceError: No format fits; the error names the columns that are missing from the closest.
        UsageError: An installed format cannot be loaded.
    """
    line = _first_line(path)
    installed = (name for name in FORMATS.names() if name not in FORMATS)
    found = _fitting(line, FORMATS) or _fitting(line, installed)
    return found or _guessed(line)


def _first_line(path: Path | str) -> _FirstLine:
    source = TextSource(path)
    first = source.first_line()
    if first is None:
        raise TraceError("the file is empty", source.path)
    text = first.strip()
    try:
        names = source.names_in(text)
    except TraceError:
        names = []
    return _FirstLine(source, text, tuple(names), text.startswith("{"))


def _fitting(line: _FirstLine, names: Iterable[str]) -> str | None:
    """Return the format that needs the most of a line's columns or fields, and no other; or None.

    A format whose columns have times of another form does not fit.
    """
    fits = [(_num_fitting(line, FORMATS[name]), name) for name in names]
    num, best = max(fits, key=lambda fit: fit[0], default=(0, ""))
    return best if num and not _has_other_times(line, FORMATS[best]) else None


def _num_fitting(line: _FirstLine, kind: TraceFormat) -> int:
    """Return the number of columns or fields by which a line fits a format; 0 if it does not."""
    if kind.record is not None and kind.record.matches(line.names, line.is_json):
        return kind.record.num_needed
    if kind.recognises(line.source, line.text):
        return max(1, len(kind.columns))
    found = set(map(folded, () if line.is_json else line.names))
    return len(kind.columns) if found.issuperset(map(folded, kind.columns)) else 0


def _has_other_times(line: _FirstLine, kind: TraceFormat) -> bool:
    """Return True for numbers in the columns of a format with dates, and the reverse."""
    if line.is_json or not kind.shares_columns:
        return False
    source = TextSource(line.source.path)
    rows = source.csv_rows()
    place = TableHeader(source, next(rows)).place("timestamp")
    first = next(rows, [])
    text = first[place] if place < len(first) else ""
    is_date = ":" in text
    return bool(text) and is_date != (kind.unit is None) and (is_date or _is_number(text))


def _is_number(text: str) -> bool:
    try:
        seconds(text)
    except ValueError:
        return False
    return True


def _guessed(line: _FirstLine) -> str:
    """Return the format of a line that no format claims.

    Raises:
        TraceError: None can be guessed.
    """
    names = line.source.names_in(line.text)  # refuses text that is neither CSV nor JSON
    try:
        if guessed_columns(names) is not None:
            return table.NAME
    except TraceError as error:
        raise line.source.error(error.problem) from None
    if not line.is_json:
        raise _lacking(line) or _unknown(line)
    if "timestamp" not in names or refusal(names) is not None:
        raise _unknown(line)
    return _USUAL_LINES


def _lacking(line: _FirstLine) -> TraceError | None:
    """Return an error that names the missing columns of the closest format, if one is close."""
    names = set(map(folded, line.names))
    tables = {
        name: {folded(each): each for each in kind.columns}
        for name, kind in FORMATS.built_in.items()
        if kind.columns
    }
    best = max(tables, key=lambda name: len(tables[name].keys() & names) / len(tables[name]))
    needed = tables[best]
    if len(needed.keys() & names) * 2 <= len(needed):
        return None
    missing = ", ".join(sorted(needed[each] for each in needed.keys() - names))
    return line.source.error(f"looks like {best}, but lacks the columns {missing}")


def _unknown(line: _FirstLine) -> TraceError:
    source = line.source
    refused = refusal(line.names)
    if refused is not None:
        return TraceError(refused, source.path)
    lengths = guessed_lengths(line.names)
    if lengths is not None:
        return source.error(
            f"the file has lengths ({' and '.join(lengths)}), but no column with a usual name for "
            "the time: name it in workload.columns={time: NAME, input: NAME, output: NAME}, or "
            "give a file without times as workload=poisson workload.lengths=FILE"
        )
    return source.error(
        "no known trace format has such a first line; if it is a table with a request per row, "
        "give workload.columns={time: NAME, input: NAME, output: NAME, model: NAME}",
        None,
        line.text,
    )
