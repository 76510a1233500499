"""A report on how a trace was read: what a reader of the results must know to trust them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

_SHOWN_MODELS = 12
_SHOWN_COPIES = 4


@dataclass(slots=True)
class TraceReport:
    """The reading of a trace, filled while the trace is read.

    Attributes:
        format: Format of the files.
        time_unit: Unit of the stamps; None for dates, and for counts per window.
        columns: Columns of a table, by their use: time, input, output, model.
        begins_at_s: The earliest row on the clock of the files; it is zero of the workload.
        mapping: The rule that assigned rows to models.
        models: The models that each name in the trace was mapped to; empty for rows without names.
        notes: Sentences on what may be wrong, or was left out.
    """

    format: str = ""
    time_unit: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    begins_at_s: float = 0.0
    mapping: str = ""
    models: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Add a sentence, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def lines(self) -> Iterator[str]:
        """Yield the lines to print: each note, and the mapping of names to models."""
        yield from (f"note: {sentence}" for sentence in self.notes)
        if self.mapping:
            yield f"models: {self.mapping}"
        for name, models in list(self.models.items())[:_SHOWN_MODELS]:
            rest = f" and {len(models) - _SHOWN_COPIES} more" if len(models) > _SHOWN_COPIES else ""
            yield f"  {name} -> {', '.join(models[:_SHOWN_COPIES])}{rest}"
        if len(self.models) > _SHOWN_MODELS:
            yield f"  and {len(self.models) - _SHOWN_MODELS} more names"
