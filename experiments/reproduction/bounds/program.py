"""The least total delay of a small instance: an integer program over a grid of slots.

Columns, for requests j, models m, ways to load w = (server, model, tier), slots t:

    x[j,t]  j starts                 z[w,t]  a load begins its transfer
    L[m,t]  lineages of m ready      n[m,d,t] loads of d slots among z that found a lineage
    I[s,m,t] ready instances         f[w,c,t] loads among z whose bytes stay in tier c
    H[s,m,c,t] m rests in tier c of server s

min sum over j, t of max(0, t slot - arrival_j) x[j,t], such that in every slot

    starts        each request starts once, and runs for its service from then on
    running       running requests of m <= L[m], and <= sum over s of I[s,m]
    lineages      L[m] grows only by loads that found one; with loads that do so at present, all
                  lineages fit the GPUs of all servers (one that moves may have no ready instance)
    instances     I[s,m] grows only by loads
    GPUs          instances and loads fit the GPUs of each server
    founding      loads that found <= requests of m that have arrived and not started
    demand        all loads of m <= requests of m that have arrived and not finished
    paths         loads from tier c or a farther one, on a server <= tiers among those: one per
                  queue (only if the controller loads sequentially)
    sources       a load from a cache tier begins where the model rests
    content       H grows only by loads that fill the tier
    capacity      what rests in a tier and what is on its way there fit it

Each run of a controller gives a feasible point of no greater cost: with a request's start taken as
completion minus service, a load's as the instant of its turn on the I/O path (it may take longer,
and may have held its GPUs before), and all of them moved to the beginnings of their slots (`grid`).
What is relaxed: inferences move between servers at no cost and whenever there is an instance;
attempts that are stopped take no time; decisions know the future.
"""

from collections.abc import Callable
from math import ceil

from experiments.reproduction.bounds.grid import GridRequest, TimeGrid
from experiments.reproduction.bounds.integer_program import IntegerProgram, Solved, Term
from experiments.reproduction.bounds.loads import PossibleLoads
from sllmcore.types import Checkpoint

_WHOLE = 1e-5  # of a slot; what HiGHS may be off


class PlacementProgram:
    """The program of one instance.

    Args:
        sequential: The controller loads one after the other on each I/O path.
    """

    def __init__(self, grid: TimeGrid, *, sequential: bool = True) -> None:
        self._grid = grid
        self._program = IntegerProgram()
        self._slots = range(grid.num_slots)
        self._starts = [self._start_columns(request) for request in grid.requests]
        self._loads = PossibleLoads(grid, self._program, sequential=sequential)
        self._lineages = {c.model: self._counts(c, sum(grid.gpus)) for c in grid.checkpoints}
        for columns in self._starts:
            self._program.exactly([Term(column) for column in columns.values()], 1.0)
        for checkpoint in grid.checkpoints:
            self._limit_lineages(checkpoint.model)
            self._limit_demand(checkpoint.model)
        self._limit_pool()

    def solve(self, time_limit_s: float | None = None) -> Solved:
        """Bound and best cost are total delays in seconds.

        Where all arrivals lie on the grid, every cost is a whole number of slots, and so the proven
        bound is rounded up to one.
        """
        solved = self._program.solve(time_limit_s)
        slot_s = self._grid.slot_s
        if not all(r.arrived_at_s == r.release * slot_s for r in self._grid.requests):
            return solved
        bound = max(0, ceil(solved.bound / slot_s - _WHOLE)) * slot_s
        return Solved(bound, solved.cost, solved.exact, solved.values)

    def _start_columns(self, request: GridRequest) -> dict[int, int]:
        slot_s = self._grid.slot_s
        return {
            slot: self._program.column(cost=max(0.0, slot * slot_s - request.arrived_at_s))
            for slot in range(request.release, request.last + 1)
        }

    def _counts(self, checkpoint: Checkpoint, num_gpus: int) -> list[int]:
        # Not whole: with whole loads and starts the rows below leave nothing to gain by halves.
        upper = num_gpus // checkpoint.num_gpus
        return [self._program.column(upper=upper, whole=False) for _ in self._slots]

    def _limit_lineages(self, model: str) -> None:
        lineages, founded = self._lineages[model], self._loads.founded(model)
        instances = self._loads.instances_of(model)
        for slot in self._slots:
            running = self._between(model, lambda r, t: range(t - r.service + 1, t + 1), slot)
            self._program.at_most([*running, Term(lineages[slot], -1.0)], 0.0)
            ready = [Term(columns[slot], -1.0) for columns in instances]
            self._program.at_most([*running, *ready], 0.0)
            before = [Term(lineages[slot - 1], -1.0)] if slot else []
            grown = [Term(column, -1.0) for column in founded.get(slot, ())]
            self._program.at_most([Term(lineages[slot]), *before, *grown], 0.0)

    def _limit_pool(self) -> None:
        for slot in self._slots:
            terms = []
            for checkpoint in self._grid.checkpoints:
                lineages = Term(self._lineages[checkpoint.model][slot])
                founding = self._loads.under_way(checkpoint.model, slot).founding
                terms += [Term(t.column, checkpoint.num_gpus) for t in (lineages, *founding)]
            self._program.at_most(terms, sum(self._grid.gpus))

    def _limit_demand(self, model: str) -> None:
        """Loads need a request: to found a lineage one that waits, else one that is there."""
        for slot in self._slots:
            arrived = [r for r in self._requests(model) if r.release <= slot]
            started = self._between(model, lambda r, t: range(r.release, t + 1), slot)
            finished = self._between(
                model, lambda r, t: range(r.release, t - r.service_most + 1), slot
            )
            now = self._loads.under_way(model, slot)
            self._program.at_most([*now.founding, *started], len(arrived))
            self._program.at_most([*now.loading, *finished], len(arrived))

    def _requests(self, model: str) -> list[GridRequest]:
        return [self._grid.requests[i] for i in self._grid.of_model(model)]

    def _between(
        self, model: str, slots_of: Callable[[GridRequest, int], range], slot: int
    ) -> list[Term]:
        """Starts of a model's requests in a range of slots, which depends on the request."""
        return [
            Term(self._starts[i][start])
            for i in self._grid.of_model(model)
            for start in slots_of(self._grid.requests[i], slot)
            if start in self._starts[i]
        ]
