"""The format of a trace file, by its first line."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, cast

from traces.errors import TraceError
from traces.formats import azure_functions_2021, azure_llm, burstgpt, mooncake, servegen
from traces.record_formats import RECORD_FORMATS
from traces.tables import folded
from traces.text_source import TextSource

TraceFormat = Literal[
    "azure_llm",
    "azure_functions_2019",
    "azure_functions_2021",
    "burstgpt",
    "mooncake",
    "servegen",
    "bailian",
]

_BY_COLUMNS: tuple[tuple[TraceFormat, tuple[str, ...]], ...] = (
    ("azure_llm", azure_llm.COLUMNS),
    ("azure_functions_2019", ("HashFunction", "1")),
    ("azure_functions_2021", azure_functions_2021.COLUMNS),
    ("burstgpt", burstgpt.COLUMNS),
    ("mooncake", mooncake.COLUMNS),
    ("servegen", servegen.TABLE_COLUMNS),
)


def detect_format(path: Path | str) -> TraceFormat:
    """Return the format of a file.

    Raises:
        TraceError: The format is unknown, or a column of it is missing.
    """
    source = TextSource(path)
    first = source.first_line()
    if first is None:
        raise TraceError("the file is empty", source.path)
    line = first.strip()
    if line.startswith("{"):
        return _format_of_lines(source, line)
    fields = source.cells(line)
    if servegen.is_raw_row(fields):
        return "servegen"
    known = _known(fields, are_lines=False)
    if known is not None:
        return known
    names = set(map(folded, fields))
    tables = [(name, {folded(each): each for each in needed}) for name, needed in _BY_COLUMNS]
    best = max(tables, key=lambda each: len(each[1].keys() & names) / len(each[1]))
    if len(best[1].keys() & names) * 2 > len(best[1]):  # name what is missing, not just "unknown"
        missing = ", ".join(sorted(best[1][each] for each in best[1].keys() - names))
        raise source.error(f"looks like {best[0]}, but lacks the columns {missing}")
    raise source.error("no known trace format has such a first line", None, line)


def _format_of_lines(source: TextSource, line: str) -> TraceFormat:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise source.error(f"not JSON: {error.msg}", None, line) from error
    known = _known(record, are_lines=True)
    if known is not None:
        return known
    if "timestamp" not in record:
        raise source.error("JSON lines need timestamp, input_length and output_length", None, line)
    return "mooncake"


def _known(names: Iterable[str], *, are_lines: bool) -> TraceFormat | None:
    """Return the format that needs the most of these columns or fields, and no other; or None."""
    names = list(names)
    found = set(map(folded, names))
    fits = [
        (len(needed), name)
        for name, needed in _BY_COLUMNS
        if found.issuperset(map(folded, needed)) and (name == "mooncake" or not are_lines)
    ]
    fits += [
        (each.num_needed, cast("TraceFormat", each.name))
        for each in RECORD_FORMATS
        if each.matches(names, are_lines)
    ]
    return max(fits, key=lambda fit: fit[0])[1] if fits else None
