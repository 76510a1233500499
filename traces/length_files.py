"""Length profiles from files: a collection of texts, or any table with two columns of lengths.

Texts are counted at `BYTES_PER_TOKEN`, because no tokenizer is at hand. Of a ShareGPT conversation
the first prompt and its answer count, as in vLLM's benchmark. Input and output are independent
draws, as from the other profiles.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from traces.cells import tokens
from traces.errors import TraceError
from traces.formats.table import guessed_lengths
from traces.lengths import LengthProfile, Lengths, Quantiles
from traces.report import TraceReport
from traces.tables import TableHeader
from traces.text_source import TextSource

BYTES_PER_TOKEN = 4  # of English under the vocabularies of GPT-2 and Llama; other text has fewer
_NUM_QUANTILES = 1001


def profile_of_file(path: str, report: TraceReport) -> LengthProfile:
    """Return the lengths in a file, and note in `report` if they are estimates.

    Raises:
        TraceError: The file holds no lengths, or a wrong one.
    """
    source = TextSource(path)
    first = source.first_line() or ""
    source = TextSource(path)
    lines = first.lstrip().startswith("{")
    found = list(_of_lines(source, report) if lines else _of_table(source))
    if not found:
        raise TraceError("the file has no lengths", path)
    return LengthProfile(
        path,
        _quantiles([each.input_tokens for each in found]),
        _quantiles([each.output_tokens for each in found]),
        path,
        "unknown",
    )


def _quantiles(lengths: Sequence[int]) -> Quantiles:
    probabilities = np.linspace(0.0, 1.0, min(_NUM_QUANTILES, max(2, len(lengths))))
    values = np.quantile(np.array(lengths, np.float64), probabilities)
    return Quantiles(tuple(probabilities.tolist()), tuple(values.tolist()))


def _of_table(source: TextSource) -> Iterator[Lengths]:
    rows = source.csv_rows()
    header = TableHeader(source, next(rows, []))
    columns = guessed_lengths(header.names)
    if columns is None:
        raise source.error("the file needs a column each for input and output tokens")
    for row in rows:
        header.check_width(row)
        yield _lengths(source, {name: row[header.place(name)] for name in columns}, columns)


def _of_lines(source: TextSource, report: TraceReport) -> Iterator[Lengths]:
    for block in source.blocks():
        for number, line in enumerate(block, start=source.line_number - len(block) + 1):
            source.line_number = number
            if line.strip():
                yield from _of_record(source, _decoded(source, line), report)


def _decoded(source: TextSource, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise source.error(f"not JSON: {error.msg}", None, line.strip()) from error
    if not isinstance(record, dict):
        raise source.error("expected a JSON object", None, line.strip())
    return record


def _of_record(
    source: TextSource, record: dict[str, Any], report: TraceReport
) -> Iterable[Lengths]:
    if "conversations" in record:
        report.note(
            f"{source.path}: lengths of texts are estimates, {BYTES_PER_TOKEN} bytes a token"
        )
        return _of_conversation(record["conversations"])
    columns = guessed_lengths(record)
    if columns is not None:
        return [_lengths(source, record, columns)]
    if isinstance(record.get("prompt"), str) and "output_tokens" in record:  # vLLM's custom
        report.note(
            f"{source.path}: lengths of texts are estimates, {BYTES_PER_TOKEN} bytes a token"
        )
        known = {"prompt": _estimate(record["prompt"]), "output_tokens": record["output_tokens"]}
        return [_lengths(source, known, ("prompt", "output_tokens"))]
    raise source.error("the object has neither lengths of input and output nor conversations")


def _of_conversation(turns: object) -> list[Lengths]:
    """Return the lengths of the first two turns; none for a shorter conversation."""
    if not isinstance(turns, list) or len(turns) < 2:
        return []
    texts = [turn.get("value") if isinstance(turn, dict) else None for turn in turns[:2]]
    prompt, answer = texts
    if not (isinstance(prompt, str) and isinstance(answer, str)):
        return []
    return [Lengths(_estimate(prompt), _estimate(answer))]


def _estimate(text: str) -> int:
    return max(1, round(len(text.encode()) / BYTES_PER_TOKEN))


def _lengths(source: TextSource, values: Mapping[str, object], columns: tuple[str, str]) -> Lengths:
    counts = []
    for name in columns:
        value = values[name]
        try:
            counts.append(max(1, tokens(value if isinstance(value, str) else repr(value))))
        except ValueError as error:
            raise source.error(f"expected {error}", name, str(value)) from None
    return Lengths(counts[0], counts[1])
