"""The phases of cold starts per policy, from the tables of instances."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.comparison.results import PolicyResult
from experiments.simulation.run_folder import INSTANCES


@dataclass(frozen=True, slots=True)
class ColdStarts:
    """The finished loads of a policy from a tier: their number, and means in seconds.

    Attributes:
        launch_s: From the command until the instance is ready: queue, transfer and phases.
        transfer_s: The part until the last byte has arrived.
        startup_s: The part of the phases that transfer no bytes.
        error_s: Absolute difference of expected and real transfer time.
    """

    label: str
    source: str
    loads: int
    launch_s: float
    transfer_s: float
    startup_s: float
    error_s: float


def cold_starts(result: PolicyResult) -> list[ColdStarts]:
    """Return the cold starts of a policy by tier, over all its seeds."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.concat_tables([pq.read_table(c.cell.folder / INSTANCES) for c in result.cells])
    columns = {name: table[name].to_numpy() for name in _COLUMNS}
    sources = np.asarray(table["source"].to_pylist())
    rows: list[ColdStarts] = []
    for source in ("DRAM", "SSD", "REMOTE"):
        held = sources == source
        if not held.any():
            continue
        launched, ready, transfer, startup, expected = (columns[n][held] for n in _COLUMNS)
        rows.append(
            ColdStarts(
                label=result.label,
                source=source,
                loads=int(held.sum()),
                launch_s=float((ready - launched).mean()),
                transfer_s=float(transfer.mean()),
                startup_s=float(startup.mean()),
                error_s=float(np.abs(transfer - expected).mean()),
            )
        )
    return rows


_COLUMNS: Sequence[str] = (
    "launched_at_s",
    "ready_at_s",
    "transfer_s",
    "startup_s",
    "expected_transfer_s",
)
