"""One arrival of a trace, whatever format it came from, and rows in batches as they are read."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec


# A Struct where the project would write a frozen dataclass: built in 0.3 us instead of 1.8 us, and
# out of sight of the garbage collector, which is most of the cost of a week of 27 million rows.
class TraceRow(msgspec.Struct, frozen=True, gc=False):
    """One request of a trace.

    Args:
        at_s: Arrival, seconds on the trace's clock (each reader says where its zero is).
        source: The function, app, model or client that was called; "" if the trace names none.
        input_tokens: Prompt length; None where the trace has no lengths.
        output_tokens: Answer length, 0 for a request that failed or said nothing; None as above.
    """

    at_s: float
    source: str
    input_tokens: int | None
    output_tokens: int | None


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Successive rows of a file, in file order, and the line that each stands on."""

    rows: list[TraceRow]
    line_numbers: Sequence[int]
