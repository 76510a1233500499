"""The format of a trace file, by its first line."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, cast

from traces.cells import seconds
from traces.errors import TraceError
from traces.formats import azure_functions_2021, azure_llm, burstgpt, mooncake, servegen
from traces.formats.table import guessed_columns, guessed_lengths
from traces.record_formats import RECORD_FORMATS
from traces.refused import refusal
from traces.tables import TableHeader, folded
from traces.text_source import TextSource

TraceFormat = Literal[
    "azure_llm",
    "azure_functions_2019",
    "azure_functions_2021",
    "burstgpt",
    "mooncake",
    "servegen",
    "bailian",
    "vidur",
    "splitwise_sim",
    "llmservingsim",
    "dynamo",
    "aibrix",
    "table",
]

_SESSIONS = {"session_id", "delay", "delay_ms"}  # of Dynamo
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
    if known in ("azure_llm", "mooncake") and _has_other_times(path, known):
        known = None
    known = known or _guessed(source, fields)
    if known is not None:
        return known
    names = set(map(folded, fields))
    tables = [(name, {folded(each): each for each in needed}) for name, needed in _BY_COLUMNS]
    best = max(tables, key=lambda each: len(each[1].keys() & names) / len(each[1]))
    if len(best[1].keys() & names) * 2 > len(best[1]):  # name what is missing, not just "unknown"
        missing = ", ".join(sorted(best[1][each] for each in best[1].keys() - names))
        raise source.error(f"looks like {best[0]}, but lacks the columns {missing}")
    raise _unknown(source, fields, line)


def _has_other_times(path: Path | str, known: TraceFormat) -> bool:
    """Return True for Azure's columns with numbers, and Mooncake's with dates."""
    source = TextSource(path)
    rows = source.csv_rows()
    place = TableHeader(source, next(rows)).place("timestamp")
    first = next(rows, [])
    text = first[place] if place < len(first) else ""
    is_date = ":" in text
    return bool(text) and is_date != (known == "azure_llm") and (is_date or _is_number(text))


def _is_number(text: str) -> bool:
    try:
        seconds(text)
    except ValueError:
        return False
    return True


def first_names(path: Path | str) -> list[str]:
    """Return the columns of a table, or the fields of the first JSON object.

    Raises:
        TraceError: The file is empty, or its first line is neither.
    """
    source = TextSource(path)
    line = (source.first_line() or "").strip()
    if not line:
        raise TraceError("the file is empty", source.path)
    if not line.startswith("{"):
        return [name.strip() for name in source.cells(line)]
    return list(_first_record(source, line))


def _guessed(source: TextSource, names: Iterable[str]) -> TraceFormat | None:
    try:
        return None if guessed_columns(names) is None else "table"
    except TraceError as error:
        raise source.error(error.problem) from None


def _unknown(source: TextSource, names: Iterable[str], line: str) -> TraceError:
    refused = refusal(names)
    if refused is not None:
        return TraceError(refused, source.path)
    lengths = guessed_lengths(names)
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
        line,
    )


def _format_of_lines(source: TextSource, line: str) -> TraceFormat:
    record = _first_record(source, line)
    if _is_mooncake(record) and isinstance(record["timestamp"], str):
        return "dynamo"  # reads dates too
    known = _known(record, are_lines=True) or _guessed(source, record)
    if known is not None:
        return known
    if "timestamp" not in record or refusal(record) is not None:
        raise _unknown(source, record, line)
    return "mooncake"


def _first_record(source: TextSource, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise source.error(f"not JSON: {error.msg}", None, line) from error
    assert isinstance(record, dict)  # it begins with {
    return record


def _is_mooncake(names: Iterable[str]) -> bool:
    found = set(names)
    return found.issuperset(mooncake.COLUMNS) and not _SESSIONS & found


def _known(names: Iterable[str], *, are_lines: bool) -> TraceFormat | None:
    """Return the format that needs the most of these columns or fields, and no other; or None."""
    names = list(names)
    found = set(map(folded, names))
    fits: list[tuple[int, TraceFormat]] = []
    if not are_lines:
        fits += [
            (len(needed), name)
            for name, needed in _BY_COLUMNS
            if found.issuperset(map(folded, needed))
        ]
    elif _is_mooncake(names):
        fits.append((len(mooncake.COLUMNS), "mooncake"))
    fits += [
        (each.num_needed, cast("TraceFormat", each.name))
        for each in RECORD_FORMATS
        if each.matches(names, are_lines)
    ]
    return max(fits, key=lambda fit: fit[0])[1] if fits else None
