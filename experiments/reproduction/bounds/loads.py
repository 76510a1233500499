"""The part of the integer program about loads: GPUs, I/O paths, and what rests in which tier."""

from collections.abc import Iterable
from dataclasses import dataclass

from experiments.reproduction.bounds.grid import CachedCopy, TimeGrid, Way
from experiments.reproduction.bounds.integer_program import IntegerProgram, Term
from sllmcore.types import StorageTier


@dataclass(frozen=True, slots=True)
class _Rest:
    """One model in one tier of one server: where it rests, per slot, and the loads that fill it."""

    columns: list[int]
    fills: dict[Way, list[int]]  # by the slot in which the load begins

    def filled(self, slot: int) -> list[int]:
        """Loads that fill it in this slot."""
        return [
            columns[slot - way.slots] for way, columns in self.fills.items() if slot >= way.slots
        ]

    def coming(self, slot: int) -> list[int]:
        """Loads under way that will."""
        return [column for way, all_ in self.fills.items() for column in _recent(all_, way, slot)]


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Loads of a model in one slot: those that found a lineage, and all."""

    founding: list[Term]
    loading: list[Term]


def _recent(columns: list[int], way: Way, slot: int) -> list[int]:
    """Of columns by first slot, those of loads that are under way in `slot`."""
    return columns[max(0, slot - way.slots + 1) : slot + 1]


class PossibleLoads:
    """Columns and rows of everything but requests and lineages."""

    def __init__(self, grid: TimeGrid, program: IntegerProgram, *, sequential: bool) -> None:
        self._grid = grid
        self._program = program
        self._sequential = sequential
        self._slots = range(grid.num_slots)
        self._over = max(request.last for request in grid.requests)
        self._first = {
            checkpoint.model: min(grid.requests[i].release for i in grid.of_model(checkpoint.model))
            for checkpoint in grid.checkpoints
        }
        self._begins = {way: self._begin_columns(way) for way in grid.ways}
        self._founds = {c.model: self._founding_columns(c.model) for c in grid.checkpoints}
        self._instances: dict[tuple[int, str], list[int]] = {}
        for way in grid.ways:
            if (way.server, way.model) not in self._instances:
                self._instances[way.server, way.model] = self._instance_columns(way)
        for server, num_gpus in enumerate(grid.gpus):
            self._limit_gpus(server, num_gpus)
            if sequential:
                self._limit_paths(server)
        for shelf in grid.shelves:
            self._stock(shelf)

    def instances_of(self, model: str) -> list[list[int]]:
        """Ready instances per slot, of each server."""
        return [columns for (_, name), columns in self._instances.items() if name == model]

    def founded(self, model: str) -> dict[int, list[int]]:
        """Loads that found a lineage, by the slot in which it is ready."""
        ready: dict[int, list[int]] = {}
        for duration, columns in self._founds[model].items():
            for slot in range(self._grid.num_slots - duration):
                ready.setdefault(slot + duration, []).append(columns[slot])
        return ready

    def under_way(self, model: str, slot: int) -> UnderWay:
        """In one slot."""
        founding = [
            Term(column)
            for duration, columns in self._founds[model].items()
            for column in columns[max(0, slot - duration + 1) : slot + 1]
        ]
        ways = [way for way in self._grid.ways if way.model == model]
        return UnderWay(founding, self._loading(ways, slot))

    def _loading(self, ways: Iterable[Way], slot: int) -> list[Term]:
        return [Term(c) for way in ways for c in _recent(self._begins[way], way, slot)]

    def _begin_columns(self, way: Way) -> list[int]:
        """No load begins before the first request of its model has arrived, and none is of use
        that ends after every request has started."""
        most = self._grid.gpus[way.server] // way.checkpoint.num_gpus
        if self._sequential and way.slots:
            most = min(most, self._num_queues(way.server, way.tier))
        useful = range(self._first[way.model], self._over - way.slots + 1)
        return [self._program.column(upper=most if t in useful else 0) for t in self._slots]

    def _num_queues(self, server: int, tier: StorageTier) -> int:
        """Queues in which a load from `tier` may have been: its own and those of farther tiers,
        where the model was nearer when its turn came than when it was launched."""
        tiers = {way.tier for way in self._grid.ways if way.server == server}
        return sum(other <= tier for other in tiers)

    def _founding_columns(self, model: str) -> dict[int, list[int]]:
        """By duration: among the loads of all servers that take so long."""
        founds: dict[int, list[int]] = {}
        durations = sorted({way.slots for way in self._grid.ways if way.model == model})
        most = len(self._grid.of_model(model))
        for duration in durations:
            columns = [self._program.column(upper=most, whole=False) for _ in self._slots]
            founds[duration] = columns
            ways = [w for w in self._grid.ways if w.model == model and w.slots == duration]
            for slot in self._slots:
                begun = [Term(self._begins[way][slot], -1.0) for way in ways]
                self._program.at_most([Term(columns[slot]), *begun], 0.0)
        return founds

    def _instance_columns(self, way: Way) -> list[int]:
        ways = [w for w in self._grid.ways if (w.server, w.model) == (way.server, way.model)]
        most = self._grid.gpus[way.server] // way.checkpoint.num_gpus
        columns = [self._program.column(upper=most, whole=False) for _ in self._slots]
        for slot in self._slots:
            before = [Term(columns[slot - 1], -1.0)] if slot else []
            loaded = [Term(self._begins[w][slot - w.slots], -1.0) for w in ways if slot >= w.slots]
            self._program.at_most([Term(columns[slot]), *before, *loaded], 0.0)
        return columns

    def _limit_gpus(self, server: int, num_gpus: int) -> None:
        ways = [way for way in self._grid.ways if way.server == server]
        each = {way.model: way.checkpoint.num_gpus for way in ways}
        for slot in self._slots:
            terms = [Term(self._instances[server, m][slot], g) for m, g in each.items()]
            for way in ways:
                terms += [
                    Term(column, way.checkpoint.num_gpus)
                    for column in _recent(self._begins[way], way, slot)
                ]
            self._program.at_most(terms, num_gpus)

    def _limit_paths(self, server: int) -> None:
        ways = [way for way in self._grid.ways if way.server == server]
        for tier in sorted({way.tier for way in ways}):
            farther = [way for way in ways if way.tier <= tier]
            for slot in self._slots:
                self._program.at_most(self._loading(farther, slot), self._num_queues(server, tier))

    def _stock(self, shelf: CachedCopy) -> None:
        """What rests on a shelf, and what may be loaded from there."""
        ways = [way for way in self._grid.ways if way.server == shelf.server]
        readers = [way for way in ways if way.tier is shelf.tier]
        rests = {way: self._rest(shelf, way, ways) for way in readers}
        for way, rest in rests.items():
            self._limit_reading(shelf, way, rest)
        sizes_bytes = {way: way.checkpoint.size_bytes for way in readers}
        if sum(sizes_bytes.values()) <= shelf.capacity_bytes:
            return
        for slot in self._slots:
            terms = [
                Term(column, sizes_bytes[way] / shelf.capacity_bytes)
                for way, rest in rests.items()
                for column in (rest.columns[slot], *rest.coming(slot))
            ]
            self._program.at_most(terms, 1.0)

    def _rest(self, shelf: CachedCopy, reader: Way, ways: list[Way]) -> _Rest:
        """The model of `reader` on its shelf: loads from farther tiers may leave it there."""
        fills = {}
        for way in ways:
            if way.model == reader.model and way.tier < shelf.tier:
                fills[way] = [self._program.column() for _ in self._slots]
                for begun, filled in zip(self._begins[way], fills[way], strict=True):
                    self._program.at_most([Term(filled), Term(begun, -1.0)], 0.0)
        columns = [self._program.column() for _ in self._slots]
        rest = _Rest(columns, fills)
        at_start = float(reader.model in shelf.at_start)
        for slot in self._slots:
            before = [Term(columns[slot - 1], -1.0)] if slot else []
            filled_now = [Term(column, -1.0) for column in rest.filled(slot)]
            self._program.at_most(
                [Term(columns[slot]), *before, *filled_now], 0.0 if slot else at_start
            )
        return rest

    def _limit_reading(self, shelf: CachedCopy, way: Way, rest: _Rest) -> None:
        """A load begins where the model rested when the slot began, or came to rest within it."""
        most = self._grid.gpus[way.server] // way.checkpoint.num_gpus
        at_start = float(way.model in shelf.at_start)
        for slot in self._slots:
            before = [Term(rest.columns[slot - 1], -most)] if slot else []
            filled = [Term(column, -most) for column in rest.filled(slot)]
            self._program.at_most(
                [Term(self._begins[way][slot]), *before, *filled], 0.0 if slot else most * at_start
            )
