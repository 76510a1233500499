"""Number formats of weights and of the KV cache, and the bytes one number takes.

int4 is group-wise, as GPTQ and AWQ store it: per group of 128 weights one fp16 scale and one
4-bit zero point, so 0.5 + (2 + 0.5) / 128 = 0.5195 bytes. fp8 and int8 keep one scale per tensor
or output channel, less than 0.1 % of the bytes, which is neglected.
"""

from collections.abc import Mapping
from enum import StrEnum

from sllmsim.catalog.lookup import entry_named

INT4_GROUP_WEIGHTS = 128  # default group size of GPTQ and AWQ checkpoints [M]
INT4_GROUP_BYTES = 2.5  # fp16 scale and 4-bit zero point


class Dtype(StrEnum):
    """Number formats. bf16 counts as FP16: equal bytes, equal peak rate on tensor cores."""

    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"


WEIGHT_BYTES: Mapping[Dtype, float] = {
    Dtype.FP16: 2.0,
    Dtype.FP8: 1.0,
    Dtype.INT8: 1.0,
    Dtype.INT4: 0.5 + INT4_GROUP_BYTES / INT4_GROUP_WEIGHTS,
}

KV_BYTES: Mapping[Dtype, float] = {
    Dtype.FP16: 2.0,
    Dtype.FP8: 1.0,
    Dtype.INT8: 1.0,
    Dtype.INT4: 0.5,
}


def dtype_named(name: str) -> Dtype:
    """Return a format by its id, such as "fp16".

    Raises:
        UsageError: There is no such format.
    """
    return entry_named("dtype", name, {dtype.value: dtype for dtype in Dtype})
