"""A few kills of real processes; `python -m experiments.campaigns.migration.kills` does a thousand.

Bugs seeded by hand and found: an owner that accepts tokens of the source after the commit repeats
tokens; an owner that does not restart from its log loses tokens.
"""

from experiments.campaigns.migration.kills import Trials
from experiments.campaigns.migration.processes import Fleet


def test_no_token_is_lost_or_repeated_when_processes_are_killed_or_stopped() -> None:
    with Fleet() as fleet:
        trials = Trials(fleet, seed=3)
        while trials.counts["SIGKILL"] < 3:
            trials.run_one()
