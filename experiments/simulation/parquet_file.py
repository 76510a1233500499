"""Tables on disk: parquet whose bytes depend on nothing but the table and pyarrow's version.

A float that is not known is null. `s` columns become strings, `i` 64-bit integers, `f` doubles.
"""

from array import array
from collections.abc import Sequence
from pathlib import Path

from sllmcore.metrics.tables import Table


def write_table(table: Table, path: Path, order: Sequence[int]) -> None:
    """Write the rows of a table in an order, given by their numbers."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    indices = np.asarray(order, dtype=np.int64)
    columns = [
        pa.array(np.frombuffer(column, dtype=column.typecode)[indices], from_pandas=True)
        if isinstance(column, array)
        else pa.array([column[index] for index in order], pa.string())
        for column in table.columns.values()
    ]
    pq.write_table(
        pa.table(columns, names=list(table.columns)),
        path,
        compression="zstd",
        row_group_size=1 << 20,
        store_schema=False,
    )


def order_of_arrival(requests: Table) -> list[int]:
    """Row numbers by arrival; requests of the same instant by their number."""
    arrived_at_s, ids = requests.numbers("arrived_at_s"), requests.columns["request_id"]
    return sorted(
        range(len(requests)), key=lambda row: (arrived_at_s[row], len(str(ids[row])), ids[row])
    )


def order_of_launch(instances: Table) -> list[int]:
    """Row numbers by launch; those of the same instant in the order in which they ended."""
    launched_at_s = instances.numbers("launched_at_s")
    return sorted(range(len(instances)), key=launched_at_s.__getitem__)
