"""AIBrix's workload generator (vllm-project/aibrix): JSON lines, times in ms.

A line has a timestamp and the requests of that instant, each with prompt_length and output_length.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from traces.record_format import RecordFormat
from traces.records import described
from traces.tables import folded


def _requests(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    by_name = {folded(name): value for name, value in record.items()}
    requests = by_name.get("requests")
    if not isinstance(requests, list) or not all(isinstance(each, dict) for each in requests):
        raise ValueError("expected a list of objects under requests")
    for each in requests:
        yield {**each, "timestamp": by_name.get("timestamp")}


FORMAT = described(
    RecordFormat(
        unit="ms",
        time=("timestamp",),
        input=("prompt_length",),
        output=("output_length",),
        model=("model",),
        marks=("requests",),
        lines=True,
        unfold=_requests,
    )
)
