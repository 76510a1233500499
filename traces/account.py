"""Counts of what happened to every row of a trace, so that no row is lost unnoticed.

rows_read + copied + generated
    = failed_dropped + before_start + after_end + thinned + replaced + jobs
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Account:
    """Counters of one iterator of requests, complete when the iterator is exhausted.

    `max_requests` ends the reading early; the rows behind it are not read and not counted.

    Attributes:
        rows_read: Rows read from files.
        failed_dropped: Rows marked as failed (0 response tokens in BurstGPT), left out.
        before_start: Rows before `start_s`.
        after_end: Rows read beyond the end of the workload.
        thinned: Rows left out to lower the rate.
        copied: Rows added to raise the rate.
        replaced: Rows that a Gamma process replaced.
        generated: Arrivals of that process, or of a workload that needs no trace.
        jobs: Requests of the workload.
    """

    rows_read: int = 0
    failed_dropped: int = 0
    before_start: int = 0
    after_end: int = 0
    thinned: int = 0
    copied: int = 0
    replaced: int = 0
    generated: int = 0
    jobs: int = 0
