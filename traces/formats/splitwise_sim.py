"""splitwise-sim (Mutinifni/splitwise-sim): a table, times in seconds.

The columns request_id, request_type, application_id and batch_size are passed over.
"""

from traces.record_format import RecordFormat
from traces.records import described

FORMAT = described(
    RecordFormat(
        unit="s",
        time=("arrival_timestamp",),
        input=("prompt_size",),
        output=("token_size",),
    )
)
