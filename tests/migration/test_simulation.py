"""Moves in virtual time: every cell of step, role and fault once or more; see `simulation` for the
laws, and `campaign` for many runs.

Bugs seeded by hand, and in how many of the first 1,000 runs of the campaign which law broke:
  - the owner listens to every epoch: 308, events of a host that the controller does not believe in
  - hosts have no leases: 135, one still holds a stream
  - a source that gives up does not release its sequence: 56, the request has not ended
  - an interrupted request starts again without its log: 25, a token follows from no host's context
  - a destination takes deltas that leave a gap: 2, likewise
  - Stop is said once: 4, the owner still waits; Ready is said once: 1, the request has not ended
and of 4,000:
  - the owner commits to a destination behind its log: 1, a token follows from no host's context
  - a lost source is told before the move that was committed: 2, an event contradicts the controller
"""

import pytest

from tests.migration.campaign import run
from tests.migration.cells import ALL_CELLS
from tests.migration.simulation import World


def test_every_cell_keeps_the_laws() -> None:
    tally = run(first=0, num_runs=2 * len(ALL_CELLS))

    assert not tally.broken
    assert len(tally.visits) > 0.9 * len(ALL_CELLS)
    assert tally.num_moved > 100


def test_without_faults_most_moves_finish_and_every_request() -> None:
    outcomes = [World(seed, cells=()).run() for seed in range(50)]

    assert {outcome.ended for outcome in outcomes} == {"finished"}
    assert sum(outcome.num_moved > 0 for outcome in outcomes) >= 35
    assert not any(outcome.num_interrupted for outcome in outcomes)


@pytest.mark.slow
def test_many_runs_keep_the_laws() -> None:
    tally = run(first=1_000_000, num_runs=20_000)

    assert not tally.broken
