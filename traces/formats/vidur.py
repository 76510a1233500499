"""Vidur's trace replay, also written by Sarathi-Serve: a table, times in seconds."""

from traces.record_format import RecordFormat
from traces.records import described

FORMAT = described(
    RecordFormat(
        unit="s",
        time=("arrived_at",),
        input=("num_prefill_tokens",),
        output=("num_decode_tokens",),
    )
)
