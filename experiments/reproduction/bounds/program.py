"""The least total delay of a small instance: an integer program over a grid of slots.

Columns, for requests j, models m, options to load o = (server, model, tier), slots t:

    x[j,t]     request j starts
    z[o,t]     loads of option o that begin their transfer
    L[m,t]     ready lineages of m
    n[m,d,t]   loads of d slots, among z, that found a lineage
    I[s,m,t]   ready instances of m on server s
    f[o,c,t]   loads, among z, that leave a copy in tier c
    H[s,m,c,t] m is in tier c of server s

min sum over j, t of max(0, t slot - arrival_j) x[j,t], such that in every slot

    starts        each request starts once, and runs for its service from then on
    running       running requests of m <= L[m], and <= sum over s of I[s,m]
    lineages      L[m] grows only by loads that found one; all lineages, with the loads that are
                  founding one, fit on the GPUs of all servers (a lineage that migrates may have no
                  ready instance)
    instances     I[s,m] grows only by loads
    GPUs          instances and loads fit the GPUs of each server
    founding      loads that found <= requests of m that have arrived and not started
    demand        all loads of m <= requests of m that have arrived and not finished
    paths         loads from tier c or a farther one, on a server <= tiers among those: one per
                  queue (only if the controller loads sequentially)
    sources       a load from a cache tier begins only if the tier holds the model
    content       H grows only by loads that leave a copy in the tier
    capacity      the models in a tier and those being loaded into it fit

Each run of a controller gives a feasible point of no greater cost. There the start of a request is
completion minus service, the start of a load is its turn on the I/O path (the load may take longer,
and may have held its GPUs before), and all starts are shifted to the beginnings of their slots
(`grid`). The program is relaxed in three ways: migrations cost nothing and are possible whenever
there is an instance, preempted attempts take no time, and decisions know the future.
"""

from collections.abc import Callable
from math import ceil

from experiments.reproduction.bounds.grid import GridRequest, TimeGrid
from experiments.reproduction.bounds.integer_program import IntegerProgram, Solved, Term
from experiments.reproduction.bounds.loads import PossibleLoads
from sllmcore.types import Checkpoint

_WHOLE = 1e-5  # tolerance of HiGHS, in slots


class PlacementProgram:
    """The integer program of an instance.

    Args:
        sequential: The controller loads one model after the other on each I/O path.
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
        """Return the bound and the best cost as total delays in seconds.

        If all arrivals are on the grid, every cost is a whole number of slots, so the proven bound
        is rounded up to a whole number of slots.
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
        # Not whole: with whole loads and starts, fractions of lineages gain nothing.
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
                founding = self._loads.in_progress(checkpoint.model, slot).founding
                terms += [Term(t.column, checkpoint.num_gpus) for t in (lineages, *founding)]
            self._program.at_most(terms, sum(self._grid.gpus))

    def _limit_demand(self, model: str) -> None:
        """Limit loads by requests: waiting ones for founding loads, unfinished ones for all."""
        for slot in self._slots:
            arrived = [r for r in self._requests(model) if r.release <= slot]
            started = self._between(model, lambda r, t: range(r.release, t + 1), slot)
            finished = self._between(
                model, lambda r, t: range(r.release, t - r.service_most + 1), slot
            )
            now = self._loads.in_progress(model, slot)
            self._program.at_most([*now.founding, *started], len(arrived))
            self._program.at_most([*now.loading, *finished], len(arrived))

    def _requests(self, model: str) -> list[GridRequest]:
        return [self._grid.requests[i] for i in self._grid.of_model(model)]

    def _between(
        self, model: str, slots_of: Callable[[GridRequest, int], range], slot: int
    ) -> list[Term]:
        """Return the starts of a model's requests in a range of slots that depends on each."""
        return [
            Term(self._starts[i][start])
            for i in self._grid.of_model(model)
            for start in slots_of(self._grid.requests[i], slot)
            if start in self._starts[i]
        ]
