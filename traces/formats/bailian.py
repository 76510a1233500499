"""Qwen-Bailian usage traces (alibaba-edu/qwen-bailian-usagetraces-anon, Apache-2.0): JSON lines.

The three fields of Mooncake, but in seconds, beside chat_id, parent_chat_id, turn and type. Blocks
of `hash_ids` have 16 tokens. Each turn of a chat has a time of its own.
"""

from traces.record_format import RecordFormat
from traces.records import described

FORMAT = described(
    RecordFormat(
        unit="s",
        time=("timestamp",),
        input=("input_length",),
        output=("output_length",),
        marks=("chat_id", "parent_chat_id"),
    )
)
