"""Tables by column: compact, appended to row by row, units in the names.

A float that is not known (no first token, no end) is NaN here and null in a file.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Column: TypeAlias = "array[float] | array[int] | list[str]"  # of doubles, of 64 bits, of names

# name -> kind: "f" seconds and other floats, "i" counts, bytes and tokens, "s" names
REQUEST_COLUMNS: Mapping[str, str] = {
    "request_id": "s",
    "tenant": "s",
    "model": "s",
    "outcome": "s",  # completed, rejected, timed_out, cancelled
    "reason": "s",  # of a rejection
    "arrived_at_s": "f",
    "started_at_s": "f",  # when the model could first run it
    "first_token_at_s": "f",
    "ended_at_s": "f",
    "startup_latency_s": "f",  # arrival to start; to the time-out where there was no start
    "ttft_s": "f",  # arrival to first token
    "pause_s": "f",  # stream standing still for migrations, preemptions and losses
    "input_tokens": "i",
    "output_tokens": "i",
    "source": "s",  # the tier that the first start came from; GPU: it was warm
    "server_id": "s",  # of the last start
    "instance_id": "s",
    "num_attempts": "i",
    "num_migrations": "i",
    "num_preemptions": "i",
    "lost_tokens": "i",  # generated, thrown away and generated again
}

INSTANCE_COLUMNS: Mapping[str, str] = {
    "instance_id": "s",
    "model": "s",
    "server_id": "s",
    "gpu_indices": "s",  # separated by blanks
    "num_gpus": "i",
    "launched_at_s": "f",
    "ready_at_s": "f",
    "ended_at_s": "f",
    "end": "s",  # unloaded, failed, lost; empty: still there
    "source": "s",  # the farthest tier that bytes came from
    "num_bytes": "i",  # from there
    "expected_transfer_s": "f",
    "transfer_s": "f",
    "expected_queue_s": "f",
    "startup_s": "f",  # phases that moved no bytes
    "busy_s": "f",  # with at least one inference
    "num_requests": "i",
}


def _column(kind: str) -> Column:
    if kind == "f":
        return array("d")
    return array("q") if kind == "i" else []


_ROWS_AT_ONCE = 1024  # turned into columns together, at a fifth of the price of one by one

Row: TypeAlias = "tuple[float | int | str, ...]"


class Table:
    """Columns of equal length."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = {name: _column(kind) for name, kind in columns.items()}
        self._rows: list[Row] = []  # not in the columns yet

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
        """The columns by name, with all rows appended so far."""
        self._flush()
        return self._columns

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()))) + len(self._rows)

    def numbers(self, name: str) -> Sequence[float]:
        """A column of floats or integers."""
        column = self.columns[name]
        assert isinstance(column, array), f"{name} is a column of names"
        return column
