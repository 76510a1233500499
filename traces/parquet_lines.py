"""A Parquet file as the lines of the CSV table that it holds."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from traces.errors import TraceError

PARQUET_MAGIC = b"PAR1"
_BATCH_ROWS = 2048


def parquet_lines(file: BinaryIO) -> Iterator[str]:
    """Yield the header and a line per row. Instants become text, lists JSON.

    Raises:
        TraceError: The file is damaged, or pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise TraceError("a Parquet file needs the package pyarrow: install .[sim]") from None
    try:
        table = pq.ParquetFile(file)
        yield _line(table.schema_arrow.names)
        for batch in table.iter_batches(_BATCH_ROWS):
            columns = [_texts(column) for column in batch.columns]
            yield from map(_line, zip(*columns, strict=True))
    except pa.ArrowException as error:
        raise TraceError(f"the Parquet file is damaged ({error})") from error


def _texts(column: Any) -> list[str]:
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):  # as text, for Python's datetime has no nanoseconds
        column = column.cast(pa.string())
    return [_text(value) for value in column.to_pylist()]


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return json.dumps(value, default=str)
    return str(value).replace("\n", " ").replace("\r", " ")


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
