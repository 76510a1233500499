"""Checkpoints on disk: the format of SPEC.md, and conversion from and to the common formats.

    convert(Path("opt-1.3b"), Path("opt-1.3b.sllm"))     # safetensors, PyTorch files or a LoRA
    verify(Path("opt-1.3b.sllm"))                        # every chunk's hash
    export_safetensors(Path("opt-1.3b.sllm"), Path("out"))

`sllmreal.loader` loads them. The same commands: `sllm checkpoint convert|verify|inspect|export`.
"""

from sllmreal.checkpoint.convert import WriteOptions, convert, save_checkpoint
from sllmreal.checkpoint.errors import (
    BadCheckpointError,
    ClosedError,
    CorruptCheckpointError,
    StorageError,
)
from sllmreal.checkpoint.export import export_safetensors
from sllmreal.checkpoint.layout import Layout, Partition, TensorEntry
from sllmreal.checkpoint.source import read_layout
from sllmreal.checkpoint.verify import Verified, verify

__all__ = [
    "BadCheckpointError",
    "ClosedError",
    "CorruptCheckpointError",
    "Layout",
    "Partition",
    "StorageError",
    "TensorEntry",
    "Verified",
    "WriteOptions",
    "convert",
    "export_safetensors",
    "read_layout",
    "save_checkpoint",
    "verify",
]
