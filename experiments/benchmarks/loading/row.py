"""One measured load, or one limit, as `loading.json` holds it."""

from dataclasses import dataclass, replace

DISK = "disk"
_MOST_STOLEN = 0.1  # of the CPUs' time; a load that lost more was not measured, the host was
LORA = "lora-llama-2-70b-r32"  # the adapter among the models


@dataclass(frozen=True, slots=True)
class LoadingRow:
    """A row of the results.

    Attributes:
        seconds: Until every page of every tensor was touched.
        returned_s: Until the loader handed the tensors over.
        cache: cold, hot, or the medium or link that was emulated.
        ratio_to_limit: limit_s / seconds, the limit measured just before and after, or in the same
            round.
        cached_share: Of the bytes wanted, what lay in the page cache (for pools: in the pool) just
            before the load: near 0 for a cold load, near 1 for a hot one, or it was neither.
        cpu_s: CPU time of the loading process, kernel included.
        stolen_share: Of the CPUs' time meanwhile, what a virtual machine's host gave to others.
        medium: What the files lay on.
    """

    loader: str
    model: str
    size_bytes: int
    cache: str
    device: str
    round: int
    seconds: float
    bytes_per_s: float
    returned_s: float | None = None
    ratio_to_limit: float | None = None
    peak_rss_bytes: int | None = None
    minor_faults: int | None = None
    major_faults: int | None = None
    cached_share: float | None = None
    cpu_s: float | None = None
    medium: str = DISK
    stolen_share: float | None = None

    def within(self, limit_s: float) -> "LoadingRow":
        """The row with its ratio to a limit."""
        return replace(self, ratio_to_limit=limit_s / self.seconds)

    @property
    def as_said(self) -> bool:
        """Whether the cache was what the row says, and the machine there."""
        if self.stolen_share is not None and self.stolen_share > _MOST_STOLEN:
            return False
        if self.cached_share is None:
            return True
        return self.cached_share >= 0.99 if self.cache == "hot" else self.cached_share <= 0.01


def limit_row(
    name: str, row_of: "Measure", seconds: float, cpu_s: float | None = None
) -> LoadingRow:
    """The row of a limit: ratio 1 by definition."""
    rate = row_of.size_bytes / seconds
    return LoadingRow(
        loader=name,
        model=row_of.model,
        size_bytes=row_of.size_bytes,
        cache=row_of.cache,
        device="cpu",
        round=row_of.round,
        seconds=seconds,
        bytes_per_s=rate,
        ratio_to_limit=1.0,
        cpu_s=cpu_s,
        medium=row_of.medium,
    )


@dataclass(frozen=True, slots=True)
class Measure:
    """What a row is a measurement of, apart from the loader."""

    model: str
    size_bytes: int
    cache: str
    round: int
    medium: str = DISK
