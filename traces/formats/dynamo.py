"""NVIDIA Dynamo and AIPerf: Mooncake's JSON lines in ms, under these or other names.

A row of a session that has a `delay` in place of a time is refused: it follows an answer.
"""

from traces.record_format import RecordFormat
from traces.records import described

FORMAT = described(
    RecordFormat(
        unit="ms",
        time=("timestamp", "created_time"),
        input=("input_length", "input_tokens"),
        output=("output_length", "output_tokens"),
        model=("model",),
        lines=True,
    )
)
