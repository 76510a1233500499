"""Parquet files of tables; their bytes depend on the table and pyarrow's version only.

NaN is written as null. Columns of kind "s" become strings, "i" 64-bit integers, "f" doubles.
Columns are made from buffers, because `pyarrow.array` imports pandas, which takes half a second.
"""

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sllmcore.metrics.tables import Column, Table

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


def write_table(table: Table, path: Path, order: Sequence[int]) -> None:
    """Write a table.

    Args:
        order: Row numbers in the order to write them.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    indices = np.asarray(order, dtype=np.int64)
    columns = [_column(column, indices) for column in table.columns.values()]
    pq.write_table(
        pa.Table.from_arrays(columns, names=list(table.columns)),
        path,
        compression="zstd",
        row_group_size=1 << 20,
        store_schema=False,
    )


def _column(column: Column, indices: "NDArray[np.int64]") -> "pa.Array[Any]":
    import numpy as np
    import pyarrow as pa

    if not isinstance(column, array):
        return _strings([column[index] for index in indices.tolist()])
    values = np.frombuffer(column, dtype=column.typecode)[indices]
    if column.typecode == "q":
        return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values.data)])
    known = np.packbits(~np.isnan(values), bitorder="little")
    validity, data = pa.py_buffer(known.data), pa.py_buffer(values.data)
    return pa.Array.from_buffers(pa.float64(), len(values), [validity, data])


def _strings(values: Sequence[str]) -> "pa.Array[Any]":
    import numpy as np
    import pyarrow as pa

    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets.data), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def order_of_arrival(requests: Table) -> list[int]:
    """Return row numbers by arrival; ties: by the number of the request."""
    arrived_at_s, ids = requests.numbers("arrived_at_s"), requests.columns["request_id"]
    return sorted(
        range(len(requests)), key=lambda row: (arrived_at_s[row], len(str(ids[row])), ids[row])
    )


def order_of_launch(instances: Table) -> list[int]:
    """Return row numbers by launch; ties: in the order of the rows, which is that of the ends."""
    launched_at_s = instances.numbers("launched_at_s")
    return sorted(range(len(instances)), key=launched_at_s.__getitem__)
