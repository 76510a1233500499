"""Loading checkpoints at hardware speed: from files, a pool in DRAM, or remote storage."""

from sllmreal.loader.errors import (
    CheckpointInUseError,
    DaemonError,
    LoadCancelledError,
    PoolExhaustedError,
    RemoteError,
)
from sllmreal.loader.load import iter_tensors, load_checkpoint
from sllmreal.loader.pipeline import Cancellation
from sllmreal.loader.pool import ChunkPool
from sllmreal.loader.shard import Shard, SplitRule
from sllmreal.loader.transfer import LoadOptions

__all__ = [
    "Cancellation",
    "CheckpointInUseError",
    "ChunkPool",
    "DaemonError",
    "LoadCancelledError",
    "LoadOptions",
    "PoolExhaustedError",
    "RemoteError",
    "Shard",
    "SplitRule",
    "iter_tensors",
    "load_checkpoint",
]
