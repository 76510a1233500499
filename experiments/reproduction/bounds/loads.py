"""The part of the integer program about loads: GPUs, I/O paths, and the content of the tiers."""

from collections.abc import Iterable
from dataclasses import dataclass

from experiments.reproduction.bounds.grid import CacheTier, LoadOption, TimeGrid
from experiments.reproduction.bounds.integer_program import IntegerProgram, Term
from sllmcore.types import StorageTier


@dataclass(frozen=True, slots=True)
class _CachedModel:
    """A model in a tier of a server.

    Attributes:
        columns: The column H of each slot: the model is in the tier.
        fills: For each option, the columns f by the slot in which the load begins.
    """

    columns: list[int]
    fills: dict[LoadOption, list[int]]

    def filled(self, slot: int) -> list[int]:
        """Return the columns of the loads that put the model into the tier in this slot."""
        return [
            columns[slot - option.slots]
            for option, columns in self.fills.items()
            if slot >= option.slots
        ]

    def filling(self, slot: int) -> list[int]:
        """Return the columns of the loads in progress that will put the model into the tier."""
        return [
            column
            for option, all_ in self.fills.items()
            for column in _overlapping(all_, option, slot)
        ]


@dataclass(frozen=True, slots=True)
class LoadsInProgress:
    """The loads of a model that are in progress in a slot: those that found a lineage, and all."""

    founding: list[Term]
    loading: list[Term]


def _overlapping(columns: list[int], option: LoadOption, slot: int) -> list[int]:
    """Return, of columns by first slot, those of the loads that are in progress in `slot`."""
    return columns[max(0, slot - option.slots + 1) : slot + 1]


class PossibleLoads:
    """The columns and rows of the program that concern loads.

    Args:
        sequential: The controller loads one model after the other on each I/O path.
    """

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
        self._begins = {option: self._begin_columns(option) for option in grid.options}
        self._founds = {c.model: self._founding_columns(c.model) for c in grid.checkpoints}
        self._instances: dict[tuple[int, str], list[int]] = {}
        for option in grid.options:
            if (option.server, option.model) not in self._instances:
                self._instances[option.server, option.model] = self._instance_columns(option)
        for server, num_gpus in enumerate(grid.gpus):
            self._limit_gpus(server, num_gpus)
            if sequential:
                self._limit_paths(server)
        for cache in grid.cache_tiers:
            self._add_tier(cache)

    def instances_of(self, model: str) -> list[list[int]]:
        """Return the columns I of a model: ready instances by slot, for each server."""
        return [columns for (_, name), columns in self._instances.items() if name == model]

    def founded(self, model: str) -> dict[int, list[int]]:
        """Return the columns of loads that found a lineage, by the slot in which it is ready."""
        ready: dict[int, list[int]] = {}
        for duration, columns in self._founds[model].items():
            for slot in range(self._grid.num_slots - duration):
                ready.setdefault(slot + duration, []).append(columns[slot])
        return ready

    def in_progress(self, model: str, slot: int) -> LoadsInProgress:
        """Return the loads of a model that are in progress in a slot."""
        founding = [
            Term(column)
            for duration, columns in self._founds[model].items()
            for column in columns[max(0, slot - duration + 1) : slot + 1]
        ]
        options = [option for option in self._grid.options if option.model == model]
        return LoadsInProgress(founding, self._loading(options, slot))

    def _loading(self, options: Iterable[LoadOption], slot: int) -> list[Term]:
        return [
            Term(c) for option in options for c in _overlapping(self._begins[option], option, slot)
        ]

    def _begin_columns(self, option: LoadOption) -> list[int]:
        """Add the columns z of an option: loads that begin, by slot.

        No load begins before the first request of its model has arrived. A load that ends after
        the last start of any request is useless.
        """
        most = self._grid.gpus[option.server] // option.checkpoint.num_gpus
        if self._sequential and option.slots:
            most = min(most, self._num_queues(option.server, option.tier))
        useful = range(self._first[option.model], self._over - option.slots + 1)
        return [self._program.column(upper=most if t in useful else 0) for t in self._slots]

    def _num_queues(self, server: int, tier: StorageTier) -> int:
        """Return the number of queues that a load from `tier` may have been in.

        These are the queues of the tier and of farther tiers: the model may have been in a nearer
        tier when its turn came than at its launch.
        """
        tiers = {option.tier for option in self._grid.options if option.server == server}
        return sum(other <= tier for other in tiers)

    def _founding_columns(self, model: str) -> dict[int, list[int]]:
        """Add the columns n: loads that found a lineage, by their duration in slots."""
        founds: dict[int, list[int]] = {}
        durations = sorted({option.slots for option in self._grid.options if option.model == model})
        most = len(self._grid.of_model(model))
        for duration in durations:
            columns = [self._program.column(upper=most, whole=False) for _ in self._slots]
            founds[duration] = columns
            options = [o for o in self._grid.options if o.model == model and o.slots == duration]
            for slot in self._slots:
                begun = [Term(self._begins[option][slot], -1.0) for option in options]
                self._program.at_most([Term(columns[slot]), *begun], 0.0)
        return founds

    def _instance_columns(self, option: LoadOption) -> list[int]:
        options = [
            o for o in self._grid.options if (o.server, o.model) == (option.server, option.model)
        ]
        most = self._grid.gpus[option.server] // option.checkpoint.num_gpus
        columns = [self._program.column(upper=most, whole=False) for _ in self._slots]
        for slot in self._slots:
            before = [Term(columns[slot - 1], -1.0)] if slot else []
            loaded = [
                Term(self._begins[o][slot - o.slots], -1.0) for o in options if slot >= o.slots
            ]
            self._program.at_most([Term(columns[slot]), *before, *loaded], 0.0)
        return columns

    def _limit_gpus(self, server: int, num_gpus: int) -> None:
        options = [option for option in self._grid.options if option.server == server]
        each = {option.model: option.checkpoint.num_gpus for option in options}
        for slot in self._slots:
            terms = [Term(self._instances[server, m][slot], g) for m, g in each.items()]
            for option in options:
                terms += [
                    Term(column, option.checkpoint.num_gpus)
                    for column in _overlapping(self._begins[option], option, slot)
                ]
            self._program.at_most(terms, num_gpus)

    def _limit_paths(self, server: int) -> None:
        options = [option for option in self._grid.options if option.server == server]
        for tier in sorted({option.tier for option in options}):
            farther = [option for option in options if option.tier <= tier]
            for slot in self._slots:
                self._program.at_most(self._loading(farther, slot), self._num_queues(server, tier))

    def _add_tier(self, cache: CacheTier) -> None:
        """Add the content of a tier, and limit the loads from it."""
        options = [option for option in self._grid.options if option.server == cache.server]
        readers = [option for option in options if option.tier is cache.tier]
        models = {option: self._cached(cache, option, options) for option in readers}
        for option, cached in models.items():
            self._limit_reading(cache, option, cached)
        sizes_bytes = {option: option.checkpoint.size_bytes for option in readers}
        if sum(sizes_bytes.values()) <= cache.capacity_bytes:
            return
        for slot in self._slots:
            terms = [
                Term(column, sizes_bytes[option] / cache.capacity_bytes)
                for option, cached in models.items()
                for column in (cached.columns[slot], *cached.filling(slot))
            ]
            self._program.at_most(terms, 1.0)

    def _cached(
        self, cache: CacheTier, reader: LoadOption, options: list[LoadOption]
    ) -> _CachedModel:
        """Add the columns of the model of `reader` in a tier; loads from farther tiers fill it."""
        fills = {}
        for option in options:
            if option.model == reader.model and option.tier < cache.tier:
                fills[option] = [self._program.column() for _ in self._slots]
                for begun, filled in zip(self._begins[option], fills[option], strict=True):
                    self._program.at_most([Term(filled), Term(begun, -1.0)], 0.0)
        columns = [self._program.column() for _ in self._slots]
        cached = _CachedModel(columns, fills)
        at_start = float(reader.model in cache.at_start)
        for slot in self._slots:
            before = [Term(columns[slot - 1], -1.0)] if slot else []
            filled_now = [Term(column, -1.0) for column in cached.filled(slot)]
            self._program.at_most(
                [Term(columns[slot]), *before, *filled_now], 0.0 if slot else at_start
            )
        return cached

    def _limit_reading(self, cache: CacheTier, option: LoadOption, cached: _CachedModel) -> None:
        """Let a load begin only if the tier held the model before, or gets it in this slot."""
        most = self._grid.gpus[option.server] // option.checkpoint.num_gpus
        at_start = float(option.model in cache.at_start)
        for slot in self._slots:
            before = [Term(cached.columns[slot - 1], -most)] if slot else []
            filled = [Term(column, -most) for column in cached.filled(slot)]
            self._program.at_most(
                [Term(self._begins[option][slot]), *before, *filled],
                0.0 if slot else most * at_start,
            )
