"""The formats that are described as data, see `RecordFormat`."""

from traces.formats import bailian
from traces.record_format import RecordFormat

RECORD_FORMATS: tuple[RecordFormat, ...] = (bailian.FORMAT,)


def record_format(name: str) -> RecordFormat | None:
    """Return the format of a name; None if it is read by a module of its own."""
    return next((each for each in RECORD_FORMATS if each.name == name), None)
