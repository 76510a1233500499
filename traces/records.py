"""The reader of the formats that `RecordFormat` describes, from a table or from JSON lines."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import msgspec

from traces.cells import name, name_column, seconds, seconds_column, tokens, tokens_column
from traces.errors import TraceError
from traces.record_format import RecordFormat
from traces.rows import RowBatch, TraceRow
from traces.tables import Column, TableHeader, folded, table_batches
from traces.text_source import TextSource
from traces.timestamps import TimestampClock
from traces.trace_format import TraceFormat

_FOLLOW_UPS = ("delay", "delay_ms")


def described(names: RecordFormat) -> TraceFormat:
    """Return the trace format that a description of its names makes up."""

    def batches(source: TextSource, clock: TimestampClock) -> Iterator[RowBatch]:
        return record_batches(source, names, RecordTimes(clock.per_second, clock))

    return TraceFormat(batches=batches, unit=names.unit, record=names)


class RecordTimes:
    """Converts the times of a trace to seconds: numbers in a unit, or dates.

    Args:
        per_second: Units in a second.
    """

    def __init__(self, per_second: float, clock: TimestampClock) -> None:
        self._per_second = per_second
        self._clock = clock

    def one(self, text: str) -> float:
        """Return a time in seconds.

        Raises:
            ValueError: The text is neither a number nor a date; the message is the expected form.
        """
        if "-" in text[1:] and ":" in text:
            return self._clock.seconds(text)
        return seconds(text) / self._per_second

    def many(self, texts: Sequence[str]) -> list[float]:
        """Return the times of a column in seconds."""
        if ":" in texts[0]:
            return self._clock.seconds_column(texts)
        return [value / self._per_second for value in seconds_column(texts)]


def record_batches(
    source: TextSource, chosen: RecordFormat, times: RecordTimes
) -> Iterator[RowBatch]:
    """Yield the rows of a file.

    Raises:
        TraceError: The file is empty, or a cell or field is missing or wrong.
    """
    first = TextSource(source.path).first_line()
    if first is None:
        raise TraceError("the file is empty", source.path)
    if first.lstrip().startswith("{"):
        return _LineReader(source, chosen, times).batches()
    return _table_batches(source, TableHeader(source, source.cells(first)), chosen, times)


def _table_batches(
    source: TextSource, header: TableHeader, chosen: RecordFormat, times: RecordTimes
) -> Iterator[RowBatch]:
    columns = [Column(_present(header, chosen.time), times.one, times.many)]
    lengths = [_present(header, each) for each in (chosen.input, chosen.output) if each]
    columns += [Column(each, tokens, tokens_column) for each in lengths]
    has_model = any(header.has(each) for each in chosen.model)
    if has_model:
        columns.append(Column(_present(header, chosen.model), name, name_column))

    def rows(values: Sequence[Sequence[Any]]) -> list[TraceRow]:
        rest = iter(values[1:])
        inputs, outputs = (next(rest) if each else repeat(None) for each in _sides(chosen))
        models = next(rest) if has_model else repeat("")
        return list(map(TraceRow, values[0], models, inputs, outputs))

    return table_batches(source, columns, rows)


def _sides(chosen: RecordFormat) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return chosen.input, chosen.output


def _present(header: TableHeader, aliases: tuple[str, ...]) -> str:
    return next((each for each in aliases if header.has(each)), aliases[0])


class _LineReader:
    """The rows of JSON lines."""

    def __init__(self, source: TextSource, chosen: RecordFormat, times: RecordTimes) -> None:
        self._source = source
        self._format = chosen
        self._times = times

    def batches(self) -> Iterator[RowBatch]:
        """Yield a batch per block of lines."""
        source = self._source
        for lines in source.blocks():
            rows: list[TraceRow] = []
            numbers: list[int] = []
            for number, line in enumerate(lines, start=source.line_number - len(lines) + 1):
                source.line_number = number
                if line.strip():
                    made = self._rows(line)
                    rows += made
                    numbers += [number] * len(made)
            yield RowBatch(rows, numbers)

    def _rows(self, line: str) -> list[TraceRow]:
        try:
            record = msgspec.json.decode(line)
        except msgspec.DecodeError:
            record = self._decoded(line)
        if not isinstance(record, dict):
            raise self._source.error("expected a JSON object", None, line.strip())
        unfold = self._format.unfold
        try:
            records = [record] if unfold is None else list(unfold(record))
        except ValueError as error:
            raise self._source.error(str(error)) from None
        return [self._row(each) for each in records]

    def _decoded(self, line: str) -> object:
        try:
            return json.loads(line)
        except json.JSONDecodeError as error:
            raise self._source.error(f"not JSON: {error.msg}", None, line.strip()) from error

    def _row(self, record: Mapping[str, Any]) -> TraceRow:
        chosen = self._format
        place, at = self._found(record, chosen.time)
        if at is None:
            refuse_follow_up(self._source, record)
        at_s = self._parsed(place, at, self._times.one)
        inputs, outputs = (
            self._parsed(*self._found(record, aliases), tokens) if aliases else None
            for aliases in _sides(chosen)
        )
        return TraceRow(at_s, self._model(record), inputs, outputs)

    def _model(self, record: Mapping[str, Any]) -> str:
        if not self._format.model:
            return ""
        place, model = self._found(record, self._format.model)
        if model is None:
            return ""
        if not isinstance(model, str):
            raise self._source.error("expected a string", place, json.dumps(model))
        return model

    def _found(self, record: Mapping[str, Any], aliases: tuple[str, ...]) -> tuple[str, Any]:
        """Return the name and value of a field; the value is None if the field is missing."""
        for alias in aliases:
            if alias in record:
                return alias, record[alias]
        wanted = set(map(folded, aliases))
        for each, value in record.items():
            if folded(each) in wanted:
                return each, value
        return aliases[0], None

    def _parsed(self, place: str, value: object, parse: Callable[[str], Any]) -> Any:
        if value is None:
            raise self._source.error("the field is missing or null", place)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self._source.error("expected a number", place, json.dumps(value))
        text = value if isinstance(value, str) else repr(value)
        try:
            return parse(text)
        except ValueError as error:
            raise self._source.error(f"expected {error}", place, text) from None


def refuse_follow_up(source: TextSource, record: Mapping[str, Any]) -> None:
    """Raise TraceError if a row without a time has a delay after an answer."""
    for place in _FOLLOW_UPS:
        if place in record:
            raise source.error(
                "the request follows the answer to another one after a delay, but the times of a "
                "workload are fixed before the run: give each row a time",
                place,
                str(record[place]),
            )
