"""Moves in virtual time: every cell of step, role and fault once or more; see `simulation` for the
laws, and `campaign` for many runs.

Bugs that were seeded by hand, and the law that caught each:
  - the owner accepts tokens of any epoch: a token follows from no host's context;
  - the owner commits although its log is past the destination's: likewise;
  - the host does not remember ended epochs: a host still holds a stream;
  - the destination does not repeat Ready, nor the owner Stop: never answered, still holds;
  - a lost instance is told before MigrationFinished: the event contradicts the controller.
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
