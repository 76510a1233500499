"""Laws that every simulated run keeps, for every cluster, workload, policy and faults.

Seeded bugs that these tests have caught, one at a time:
- a removed instance that stays next occupant of a GPU; a leaving instance that gets requests; a
  migration that reserves no slot at its destination, and one that ends and keeps it; one slot too
  many per instance;
- `StartRequest` before the load has finished, `StartMigration` before the destination is loaded;
- pins that outlive their load; space that stays reserved for a cancelled load; evictions of a model
  that a load reads; a partial eviction one byte short;
- servers with new available GPUs that are not processed; a request that lost its instance and is
  dropped, or queued without a decision; a deadline that runs on while the request runs;
- a draining server that takes instances; loads that never leave their queue;
- a covering knapsack that is off by one GPU.
Real bugs that they have found: a restarted controller that got the first of its queued events last;
stops, migrations and failed loads that crossed an end while the controller was down; bytes in a
full tier of a load with an unreported end; requests that waited forever in a lost cluster; a load
on a draining server; three requests that were never decided again.
"""

from hypothesis import given

from tests.laws.cases import Case, cases
from tests.laws.runs import play


@given(cases())
def test_every_run_without_faults_keeps_the_laws(case: Case) -> None:
    play(case)


@given(cases(max_faults=6))
def test_every_run_with_faults_keeps_the_laws(case: Case) -> None:
    play(case)
