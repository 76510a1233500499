"""A few kills of real processes; `python -m experiments.campaigns.migration.kills` does a thousand.

Seeded by hand: an owner that keeps listening to the source after the commit repeats tokens, one
that does not fall back on its log loses them.
"""

from experiments.campaigns.migration.kills import KillTrials
from experiments.campaigns.migration.process_controller import ProcessController


def test_no_token_is_lost_or_repeated_when_processes_die_or_stop() -> None:
    with ProcessController() as controller:
        trials = KillTrials(controller, seed=3)
        while trials.counts["SIGKILL"] < 3:
            trials.run_one()
