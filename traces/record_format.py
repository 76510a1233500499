"""Formats with a request per row and fixed names of columns or fields: described as data.

One reader (`traces.records`) reads all of them, from a table with a header or from JSON lines.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from traces.tables import folded
from traces.time_unit import TimeUnit, unit_in_name

Unfold = Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class RecordFormat:
    """The names of a format. A tuple of names has the aliases of one field, the usual one first.

    Args:
        unit: Unit of the times, unless the name of their field has one.
        time, input, output: Arrival, tokens of the prompt, tokens of the answer.
        model: Name of the called model; () if the format names none.
        marks: Further fields that only this format has.
        lines: JSON lines, and no table.
        unfold: Makes several requests of a JSON object; None: an object is a request.
    """

    unit: TimeUnit
    time: tuple[str, ...]
    input: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    lines: bool = False
    unfold: Unfold | None = None

    def matches(self, names: Iterable[str], are_lines: bool) -> bool:
        """Return True if a header, or the fields of the first object, are those of the format."""
        found = set(map(folded, names))
        lengths = () if self.unfold else (self.input, self.output)
        needed = [each for each in (self.time, *lengths) if each]
        return (
            (are_lines or not self.lines)
            and found.issuperset(map(folded, self.marks))
            and all(not found.isdisjoint(map(folded, aliases)) for aliases in needed)
        )

    @property
    def num_needed(self) -> int:
        """Number of fields that must be there; of the formats that match, the one with the most."""
        return len(self.marks) + sum(bool(each) for each in (self.time, self.input, self.output))

    @property
    def unit_is_named(self) -> bool:
        """True if the name of the time field states its unit."""
        return all(unit_in_name(name) is not None for name in self.time)
