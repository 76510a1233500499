"""Column tables of requests and instances, filled row by row. Units are in the column names.

An unknown float (no first token, no end) is NaN in a table and null in a file.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Column: TypeAlias = "array[float] | array[int] | list[str]"  # doubles, 64-bit integers or names

# name -> kind: "f" seconds and other floats, "i" counts, bytes and tokens, "s" names
REQUEST_COLUMNS: Mapping[str, str] = {
    "request_id": "s",
    "tenant": "s",
    "model": "s",
    "outcome": "s",  # completed, rejected, timed_out, cancelled
    "reason": "s",  # why it was rejected
    "arrived_at_s": "f",
    "started_at_s": "f",  # time of the first `StartRequest`
    "first_token_at_s": "f",
    "ended_at_s": "f",
    "startup_latency_s": "f",  # arrival to start, or to the time-out
    "ttft_s": "f",  # arrival to first token
    "pause_s": "f",  # total pause for migrations, preemptions and losses
    "input_tokens": "i",
    "output_tokens": "i",
    "source": "s",  # tier from which the first instance was loaded; GPU: warm start
    "server_id": "s",  # of the last instance
    "instance_id": "s",
    "num_attempts": "i",
    "num_migrations": "i",
    "num_preemptions": "i",
    "lost_tokens": "i",  # generated, discarded and generated again
}

INSTANCE_COLUMNS: Mapping[str, str] = {
    "instance_id": "s",
    "model": "s",
    "server_id": "s",
    "gpu_indices": "s",  # separated by spaces
    "num_gpus": "i",
    "launched_at_s": "f",
    "ready_at_s": "f",
    "ended_at_s": "f",
    "end": "s",  # unloaded, failed, lost; empty: present at the end of the run
    "source": "s",  # the farthest tier of its bytes
    "num_bytes": "i",  # loaded from there and from tiers nearer
    "expected_transfer_s": "f",
    "transfer_s": "f",
    "expected_queue_s": "f",
    "startup_s": "f",  # phases of the cold start without transfer
    "busy_s": "f",  # time with at least one request
    "num_requests": "i",
}


def _column(kind: str) -> Column:
    if kind == "f":
        return array("d")
    return array("q") if kind == "i" else []


_ROWS_AT_ONCE = 1024  # converted to columns together, five times faster than one by one

Row: TypeAlias = "tuple[float | int | str, ...]"


class Table:
    """A table of columns with equal length."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = {name: _column(kind) for name, kind in columns.items()}
        self._rows: list[Row] = []  # rows not yet in the columns

    def append(self, row: Row) -> None:
        """Add a row, its values in the order of the columns."""
        self._rows.append(row)
        if len(self._rows) == _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            turned = zip(*self._rows, strict=True)
            for column, values in zip(self._columns.values(), turned, strict=True):
                column.extend(values)
            self._rows.clear()

    @property
    def columns(self) -> Mapping[str, Column]:
        """The columns by name, including all rows appended so far."""
        self._flush()
        return self._columns

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()))) + len(self._rows)

    def numbers(self, name: str) -> Sequence[float]:
        """Return a column of floats or integers."""
        column = self.columns[name]
        assert isinstance(column, array), f"{name} is a column of names"
        return column
