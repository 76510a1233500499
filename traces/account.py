"""What became of every row of a trace: counted, so that a run can be checked to the last one.

rows_read + copied + generated
    = failed_dropped + before_start + after_end + thinned + replaced + jobs
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Account:
    """Counters that fill up while an iterator is drained. Mutable, one per iterator.

    A limit ends the reading early: rows behind it are not read and not counted.
    """

    rows_read: int = 0
    failed_dropped: int = 0  # rows marked failed (0 response tokens in BurstGPT)
    before_start: int = 0
    after_end: int = 0  # read, and then not needed
    thinned: int = 0
    copied: int = 0
    replaced: int = 0  # rows that a Gamma process took the place of ...
    generated: int = 0  # ... and its arrivals; all arrivals of a workload without a trace
    jobs: int = 0
