"""Which format a file is in, told by its first line."""

import json
from pathlib import Path
from typing import Literal

from traces.errors import TraceError
from traces.formats import azure_functions_2021, azure_llm, burstgpt, mooncake, servegen
from traces.tables import folded
from traces.text_source import TextSource

TraceFormat = Literal[
    "azure_llm", "azure_functions_2019", "azure_functions_2021", "burstgpt", "mooncake", "servegen"
]

_BY_COLUMNS: tuple[tuple[TraceFormat, frozenset[str]], ...] = (
    ("azure_llm", frozenset(azure_llm.COLUMNS)),
    ("azure_functions_2019", frozenset({"HashFunction", "1"})),
    ("azure_functions_2021", frozenset(azure_functions_2021.COLUMNS)),
    ("burstgpt", frozenset(burstgpt.COLUMNS)),
    ("mooncake", frozenset(mooncake.COLUMNS)),
    ("servegen", frozenset(servegen.TABLE_COLUMNS)),
)


def detect_format(path: Path | str) -> TraceFormat:
    """The format, or a TraceError naming the columns that were found."""
    source = TextSource(path)
    first = source.first_line()
    if first is None:
        raise TraceError("the file is empty", source.path)
    line = first.strip()
    if line.startswith("{"):
        return _json_format(source, line)
    fields = source.cells(line)
    if servegen.is_raw_row(fields):
        return "servegen"
    names = {folded(field) for field in fields}
    known = [(name, {folded(column): column for column in needed}) for name, needed in _BY_COLUMNS]
    best = max(known, key=lambda each: len(each[1].keys() & names) / len(each[1]))
    if best[1].keys() <= names:
        return best[0]
    if len(best[1].keys() & names) * 2 > len(best[1]):  # name what is missing, not just "unknown"
        missing = ", ".join(sorted(best[1][each] for each in best[1].keys() - names))
        raise source.error(f"looks like {best[0]}, but lacks the columns {missing}")
    raise source.error("no known trace format has such a first line", None, line)


def _json_format(source: TextSource, line: str) -> TraceFormat:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise source.error(f"not JSON: {error.msg}", None, line) from error
    if "timestamp" not in record:
        raise source.error("JSON lines need timestamp, input_length and output_length", None, line)
    return "mooncake"
