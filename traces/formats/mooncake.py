"""Mooncake FAST'25 (kvcache-ai/Mooncake, Apache-2.0): JSON lines, or the same fields as CSV.

Fields timestamp (ms, or another unit on request), input_length, output_length; `hash_ids` is passed
over. `model`, which `traces export` adds, becomes the source. The conversation trace ticks every
3 s.
"""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any

import msgspec

from traces.cells import (
    MAX_TOKENS,
    name,
    name_column,
    seconds,
    seconds_column,
    tokens,
    tokens_column,
)
from traces.errors import TraceError
from traces.records import refuse_follow_up
from traces.rows import RowBatch, TraceRow
from traces.tables import Column, TableHeader, table_batches
from traces.text_source import TextSource
from traces.timestamps import TimestampClock
from traces.trace_format import TraceFormat

COLUMNS = ("timestamp", "input_length", "output_length")
_SESSIONS = {"session_id", "delay", "delay_ms"}  # of Dynamo


def batches(source: TextSource, clock: TimestampClock) -> Iterator[RowBatch]:
    """Rows in file order, from either encoding (a first line that begins with `{` is JSON)."""
    first = TextSource(source.path).first_line()
    if first is None:
        raise TraceError("the file is empty", source.path)
    if first.lstrip().startswith("{"):
        return _json_batches(source, clock.per_second)
    columns = [
        Column("timestamp", seconds, seconds_column),
        Column("input_length", tokens, tokens_column),
        Column("output_length", tokens, tokens_column),
    ]
    if TableHeader(source, source.cells(first.strip())).has("model"):
        columns.append(Column("model", name, name_column))
    return table_batches(source, columns, partial(_rows, clock.per_second))


def _rows(per_second: float, values: Sequence[Sequence[Any]]) -> list[TraceRow]:
    times = [time / per_second for time in values[0]]
    models = values[3] if len(values) > 3 else repeat("")
    return list(map(TraceRow, times, models, values[1], values[2]))


class _Record(msgspec.Struct):
    timestamp: float
    input_length: int
    output_length: int
    model: str = ""


def _json_batches(source: TextSource, per_second: float) -> Iterator[RowBatch]:
    decode = msgspec.json.Decoder(_Record).decode
    for lines in source.blocks():
        try:
            rows = [_row(decode(line), per_second) for line in lines]
        except (msgspec.MsgspecError, ValueError):
            yield _slow_batch(source, lines, per_second)
        else:
            yield RowBatch(rows, range(source.line_number - len(lines) + 1, source.line_number + 1))


def _row(record: _Record, per_second: float) -> TraceRow:
    if not (
        0 <= record.input_length <= MAX_TOKENS
        and 0 <= record.output_length <= MAX_TOKENS
        and record.timestamp >= 0
    ):
        raise ValueError
    at_s = record.timestamp / per_second
    return TraceRow(at_s, record.model, record.input_length, record.output_length)


def _slow_batch(source: TextSource, lines: list[str], per_second: float) -> RowBatch:
    rows: list[TraceRow] = []
    numbers: list[int] = []
    for line_number, line in enumerate(lines, start=source.line_number - len(lines) + 1):
        source.line_number = line_number
        if line.strip():
            rows.append(_checked_row(source, line, per_second))
            numbers.append(line_number)
    return RowBatch(rows, numbers)


def _checked_row(source: TextSource, line: str, per_second: float) -> TraceRow:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise source.error(f"not JSON: {error.msg}", None, line.strip()) from error
    if not isinstance(record, dict):
        raise source.error("expected a JSON object", None, line.strip())
    model = record.get("model", "")
    if not isinstance(model, str):
        raise source.error("expected a string", "model", json.dumps(model))
    if "timestamp" not in record:
        refuse_follow_up(source, record)
    at_s = seconds(_number(source, record, "timestamp")) / per_second
    lengths = [tokens(_number(source, record, key)) for key in ("input_length", "output_length")]
    return TraceRow(at_s, model, lengths[0], lengths[1])


def _number(source: TextSource, record: dict[str, object], key: str) -> str:
    """The text of a number that its parser accepts."""
    if key not in record:
        raise source.error("the field is missing", key)
    value = record[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise source.error("expected a number", key, json.dumps(value))
    text = repr(value)
    try:
        (seconds if key == "timestamp" else tokens)(text)
    except ValueError as error:
        raise source.error(f"expected {error}", key, text) from None
    return text


def _is_json_row(source: TextSource, line: str) -> bool:
    """Return True for the three fields, with a number as time, outside of a Dynamo session."""
    try:
        record = json.loads(line) if line.startswith("{") else {}
    except json.JSONDecodeError:
        return False
    if not record.keys() >= set(COLUMNS) or _SESSIONS & record.keys():
        return False
    return not isinstance(record["timestamp"], str)  # dynamo reads dates too


FORMAT = TraceFormat(
    frozenset(COLUMNS), batches, recognises=_is_json_row, unit="ms", shares_columns=True
)
