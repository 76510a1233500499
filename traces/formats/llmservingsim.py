"""LLMServingSim (casys-kaist): a table under tabs, or JSON lines with ids of tokens; times in ns.

Sessions of an agent (`sub_requests`) are refused: a step follows the answer to the one before.
"""

from traces.record_format import RecordFormat
from traces.records import described

FORMAT = described(
    RecordFormat(
        unit="ns",
        time=("arrival_time_ns",),
        input=("input_toks",),
        output=("output_toks",),
    )
)
