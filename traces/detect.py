"""Detection of a file's format from its first line."""

import json
from collections.abc import Iterable
from pathlib import Path

from traces.errors import TraceError
from traces.registry import FORMATS
from traces.text_source import TextSource


def detect_format(path: Path | str) -> str:
    """Return the name of a file's format.

    Built-in formats come first: others are imported only if none of them fits.

    Raises:
        TraceError: No format fits; the error names the columns that are missing from the closest.
        UsageError: An installed format cannot be loaded.
    """
    source = TextSource(path)
    first = source.first_line()
    if first is None:
        raise TraceError("the file is empty", source.path)
    line = first.strip()
    installed = (name for name in FORMATS.names() if name not in FORMATS)
    found = _fitting(source, line, FORMATS) or _fitting(source, line, installed)
    if found is None:
        raise _problem(source, line)
    return found


def _fitting(source: TextSource, line: str, names: Iterable[str]) -> str | None:
    columns = _columns(source, line)
    for name in names:
        kind = FORMATS[name]
        has_columns = kind.columns and kind.columns <= columns
        if has_columns or kind.recognises(source, line):
            return name
    return None


def _columns(source: TextSource, line: str) -> set[str]:
    """Return the names in a line that may be a header; none if it is not CSV."""
    try:
        return set() if line.startswith("{") else {cell.strip() for cell in source.cells(line)}
    except TraceError:
        return set()


def _problem(source: TextSource, line: str) -> TraceError:
    """Return the error for a first line that no format fits."""
    if line.startswith("{"):
        return _json_problem(source, line)
    columns = {cell.strip() for cell in source.cells(line)}  # refuses what is not CSV
    tables = {name: kind.columns for name, kind in FORMATS.built_in.items() if kind.columns}
    best = max(tables, key=lambda name: len(tables[name] & columns) / len(tables[name]))
    if len(tables[best] & columns) * 2 > len(tables[best]):
        missing = ", ".join(sorted(tables[best] - columns))
        return source.error(f"looks like {best}, but lacks the columns {missing}")
    return source.error("no known trace format has such a first line", None, line)


def _json_problem(source: TextSource, line: str) -> TraceError:
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        return source.error(f"not JSON: {error.msg}", None, line)
    return source.error("JSON lines need timestamp, input_length and output_length", None, line)
