"""What became of every row of a trace: counted, so that a run can be checked to the last one.

rows_read = failed_dropped + before_start + after_end + replaced + thinned - copied + jobs
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Account:
    """Counters that fill up while an iterator is drained. Mutable, one per iterator.

    `after_end` stays 0 when a limit ends the reading early: rows never read are not rows read.
    """

    rows_read: int = 0
    failed_dropped: int = 0  # rows marked failed (0 response tokens in BurstGPT)
    before_start: int = 0
    after_end: int = 0
    replaced: int = 0  # arrivals that a Gamma process was fitted to and took the place of
    thinned: int = 0
    copied: int = 0
    jobs: int = 0
