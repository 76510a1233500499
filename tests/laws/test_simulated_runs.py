"""Laws that every simulated run keeps, whatever the cluster, the trace, the policy, the faults.

Seeded bugs that these tests have caught, one at a time:
- a claim on a GPU that its claimant leaves behind; an instance that is to leave and may still be
  given requests; a migration that keeps no slot at its destination, and one that gives up and keeps
  it; one slot too many per instance;
- `Infer` before the load has finished, `Resume` before the destination is loaded;
- pins that outlive their load, room that stays promised to a load that was broken off, evictions of
  what a load reads, a partial eviction one byte short;
- servers that gained GPUs and are not looked at; a request that lost its instance and is forgotten,
  or queued and not asked about; a deadline that still runs while the request does;
- a draining server that takes instances; loads that never leave their queue;
- a covering knapsack that is off by one GPU.
And bugs that nobody had seeded: a restarted controller that was told the first of its waiting
events last; stops, resumes and failed loads that crossed an end while the controller was down;
bytes of an unheard load that stayed in a full tier; requests that waited for ever for a lost
cluster; a load on a draining server; three lost wake-ups.
"""

from hypothesis import given

from tests.laws.runs import play
from tests.laws.worlds import World, worlds


@given(worlds())
def test_every_run_without_faults_keeps_the_laws(world: World) -> None:
    play(world)


@given(worlds(max_faults=6))
def test_every_run_with_faults_keeps_the_laws(world: World) -> None:
    play(world)
