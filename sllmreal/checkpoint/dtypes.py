"""Element types: torch's names, their widths in bytes, and their safetensors codes.

Torch is imported only where a `torch.dtype` is needed, so an index can be checked without torch.
Quantised torch types (qint8 ...) are absent: their bytes have no meaning without a quantiser.
"""

from typing import TYPE_CHECKING

from sllmreal.checkpoint.errors import BadCheckpointError

if TYPE_CHECKING:
    import torch

_ONE_BYTE = (
    "bool uint8 int8 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu "
    "float4_e2m1fn_x2 int1 int2 int3 int4 int5 int6 int7 uint1 uint2 uint3 uint4 uint5 uint6 uint7 "
    "bits8 bits1x8 bits2x4 bits4x2"
)
ITEM_BYTES: dict[str, int] = {
    **dict.fromkeys(_ONE_BYTE.split(), 1),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16", "bits16"), 2),
    **dict.fromkeys(("float32", "int32", "uint32", "complex32"), 4),
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    "complex128": 16,
}

SAFETENSORS_CODES: dict[str, str] = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn_x2",  # two elements per byte: safetensors counts elements, torch bytes
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "C64": "complex64",
}


def safetensors_code(dtype: str) -> str:
    """Return the safetensors code of a torch dtype's name. Raises BadCheckpointError if none."""
    for code, name in SAFETENSORS_CODES.items():
        if name == dtype:
            return code
    raise BadCheckpointError(f"safetensors has no dtype for {dtype}: cast the tensor first")


def torch_dtype(name: str) -> "torch.dtype":
    """Return the torch dtype of that name. Raises BadCheckpointError if this torch lacks it."""
    import torch

    dtype = getattr(torch, name, None) if name in ITEM_BYTES else None
    if not isinstance(dtype, torch.dtype):
        raise BadCheckpointError(f"dtype {name!r} is unknown to torch {torch.__version__}")
    return dtype


def dtype_name(dtype: "torch.dtype") -> str:
    """Return the recorded name of a torch dtype. Raises BadCheckpointError if it has none."""
    name = str(dtype).removeprefix("torch.")
    if name not in ITEM_BYTES:
        raise BadCheckpointError(
            f"tensors of dtype {name} cannot be stored: their elements are not plain bytes"
        )
    return name
