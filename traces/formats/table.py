"""Any table or JSON lines with a request per row: the user names the columns, or they are guessed.

A guess needs one column each for time, input and output with a usual name (`_ALIASES`); two such
columns are an error. A time is a number (in the unit at the end of the column's name, or seconds)
or a date.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from traces.errors import TraceError
from traces.record_format import RecordFormat
from traces.records import described
from traces.rows import RowBatch
from traces.tables import folded
from traces.text_source import TextSource
from traces.time_unit import TimeUnit, name_without_unit, unit_in_name
from traces.timestamps import TimestampClock
from traces.trace_format import TraceFormat

NAME = "table"

_ALIASES = {
    "time": (
        "arrival arrivals arrival_time arrival_at arrival_timestamp arrived arrived_at timestamp "
        "time request_time request_timestamp start_time start_timestamp created_at created_time "
        "submit_time submitted_at ts"
    ),
    "input": (
        "input_tokens input_length input_len input_toks input_token_count num_input_tokens isl "
        "prompt_tokens prompt_length prompt_len prompt_toks prompt_size num_prompt_tokens "
        "request_tokens context_tokens prefill_tokens prefill_length prefill_len num_prefill_tokens"
    ),
    "output": (
        "output_tokens output_length output_len output_toks output_token_count num_output_tokens "
        "osl gen_tokens gen_length gen_len generated_tokens generated_length generation_len "
        "generation_length generation_tokens completion_tokens completion_length completion_len "
        "response_tokens response_length response_len decode_tokens decode_length decode_len "
        "num_decode_tokens num_generated_tokens"
    ),
    "model": "model model_name model_id",
}


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table by their use.

    Args:
        time: Arrival of a request.
        input, output: Tokens of the prompt and of the answer; None for both: lengths are drawn.
        model: Name of the called model; None: the table names none.

    Raises:
        TraceError: Only one of input and output is given.
    """

    time: str
    input: str | None = None
    output: str | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        if (self.input is None) != (self.output is None):
            raise TraceError("columns need both input and output, or none of them")

    @property
    def named(self) -> dict[str, str]:
        """The columns that are given."""
        return {use: column for use, column in asdict(self).items() if column is not None}

    @property
    def format(self) -> TraceFormat:
        """The format that reads these columns."""
        return described(self._record)

    @property
    def _record(self) -> RecordFormat:
        model = () if self.model is None else (self.model,)
        if self.input is None or self.output is None:
            return RecordFormat(self._unit, (self.time,), model=model)
        sides = (self.input,), (self.output,)
        return RecordFormat(self._unit, (self.time,), *sides, model=model)

    @property
    def _unit(self) -> TimeUnit:
        return unit_in_name(self.time) or "s"


def columns_from_text(text: str) -> Columns:
    """Return the columns of `time=NAME,input=NAME,...`.

    Raises:
        TraceError: A use is unknown, or time is missing.
    """
    pairs = dict(part.partition("=")[::2] for part in text.split(","))
    try:
        return Columns(**pairs)
    except TypeError:
        raise TraceError(
            f"columns need time=NAME, and may have input, output and model, got {text!r}"
        ) from None


def guessed_columns(names: Iterable[str]) -> Columns | None:
    """Return the columns with usual names; None if time, input or output has none.

    Raises:
        TraceError: Two columns have usual names for one use.
    """
    names = list(names)
    found = {use: _with_use(use, names) for use in _ALIASES}
    if not (found["time"] and found["input"] and found["output"]):
        return None
    for use, columns in found.items():
        if len(columns) > 1:
            raise TraceError(
                f"{' and '.join(columns)} may both be the {use}: give "
                "workload.columns={time: ..., input: ..., output: ..., model: ...}"
            )
    return Columns(**{use: columns[0] for use, columns in found.items() if columns})


def guessed_lengths(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the columns of input and output; None unless each has one usual name."""
    names = list(names)
    inputs, outputs = (_with_use(use, names) for use in ("input", "output"))
    return (inputs[0], outputs[0]) if len(inputs) == len(outputs) == 1 else None


def _with_use(use: str, names: Sequence[str]) -> list[str]:
    aliases = set(map(folded, _ALIASES[use].split()))
    plain = name_without_unit if use == "time" else str
    return [name for name in names if folded(plain(name)) in aliases]


def columns_of_file(source: TextSource) -> Columns:
    """Return the columns of a file, by their usual names.

    Raises:
        TraceError: A column has no usual name, or two have.
    """
    columns = guessed_columns(source.first_names())
    if columns is None:
        raise TraceError(
            "name the columns of the table: workload.columns={time: ..., ...}", source.path
        )
    return columns


def _batches(source: TextSource, clock: TimestampClock) -> Iterator[RowBatch]:
    batches = columns_of_file(TextSource(source.path)).format.batches
    assert batches is not None
    return batches(source, clock)


FORMAT = TraceFormat(batches=_batches, unit="s")
