"""The formats that are described as data, see `RecordFormat`."""

from traces.formats import aibrix, bailian, dynamo, llmservingsim, splitwise_sim, vidur
from traces.record_format import RecordFormat

RECORD_FORMATS: tuple[RecordFormat, ...] = (
    bailian.FORMAT,
    vidur.FORMAT,
    splitwise_sim.FORMAT,
    llmservingsim.FORMAT,
    dynamo.FORMAT,
    aibrix.FORMAT,
)


def record_format(name: str) -> RecordFormat | None:
    """Return the format of a name; None if it is read by a module of its own."""
    return next((each for each in RECORD_FORMATS if each.name == name), None)
