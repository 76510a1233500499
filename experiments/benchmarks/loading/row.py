"""A measured load or limit, as in `loading.json`."""

from dataclasses import dataclass, replace

DISK = "disk"
_MAX_STOLEN = 0.1  # share of CPU time; a load that lost more is not a valid measurement
LORA = "lora-llama-2-70b-r32"  # the adapter among the models


@dataclass(frozen=True, slots=True)
class LoadingRow:
    """A row of the results.

    Attributes:
        seconds: Time until every page of every tensor was touched.
        returned_s: Time until the loader returned the tensors.
        cache: "cold", "hot", or the emulated medium or link.
        ratio_to_limit: limit_s / seconds; the limit is measured just before and after, or in the
            same round.
        cached_share: Share of the wanted bytes in the page cache (for pools: in the pool) just
            before the load. A valid cold load has about 0, a valid hot load about 1.
        cpu_s: CPU time of the loading process, kernel included.
        stolen_share: Share of CPU time that the host of a virtual machine gave to others.
        medium: The medium of the files.
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
        """Return the row with its ratio to a limit."""
        return replace(self, ratio_to_limit=limit_s / self.seconds)

    @property
    def valid(self) -> bool:
        """True if the cache was as the row states and the CPU time was not stolen."""
        if self.stolen_share is not None and self.stolen_share > _MAX_STOLEN:
            return False
        if self.cached_share is None:
            return True
        return self.cached_share >= 0.99 if self.cache == "hot" else self.cached_share <= 0.01


def limit_row(
    name: str, row_of: "LoadingMeasure", seconds: float, cpu_s: float | None = None
) -> LoadingRow:
    """Return the row of a limit; its ratio is 1 by definition."""
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
class LoadingMeasure:
    """The conditions of a measurement, apart from the loader."""

    model: str
    size_bytes: int
    cache: str
    round: int
    medium: str = DISK
