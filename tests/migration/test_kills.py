"""A few kills of real processes; `python -m experiments.campaigns.migration.kills` does a thousand.

Bugs seeded by hand and found: an owner that accepts tokens of the source after the commit repeats
tokens; an owner that does not restart from its log loses tokens.
"""

from experiments.campaigns.migration.kills import KillTrials
from experiments.campaigns.migration.process_controller import ProcessController


def test_no_token_is_lost_or_repeated_when_processes_die_or_stop() -> None:
    with ProcessController() as controller:
        trials = KillTrials(controller, seed=3)
        while trials.counts["SIGKILL"] < 3:
            trials.run_one()
