"""Checkpoints on disk: the format of SPEC.md, and conversion from and to the common ones."""

from sllmreal.checkpoint.convert import convert, save_checkpoint
from sllmreal.checkpoint.errors import BadCheckpointError, CorruptCheckpointError, StorageError
from sllmreal.checkpoint.export import export_safetensors
from sllmreal.checkpoint.layout import Layout, Partition, TensorEntry
from sllmreal.checkpoint.source import read_layout
from sllmreal.checkpoint.verify import verify

__all__ = [
    "BadCheckpointError",
    "CorruptCheckpointError",
    "Layout",
    "Partition",
    "StorageError",
    "TensorEntry",
    "convert",
    "export_safetensors",
    "read_layout",
    "save_checkpoint",
    "verify",
]
