"""Loads of checkpoints at hardware speed: from files, a pool in DRAM, or remote storage.

    with ChunkPool(8 << 30) as pool:                     # memory shared by all loads
        tensors = load_checkpoint("opt-1.3b.sllm", pool=pool)

    for name, tensor in iter_tensors("opt-1.3b.sllm"):   # as they arrive
        ...

    with remote_storage("s3://models/opt-1.3b") as storage:
        tensors = load_remote(storage, cache=Path("/ssd"))

    tensors = connect_store().load_checkpoint("opt-1.3b.sllm")   # memory shared by processes

Every hash is verified. CPU tensors are views of the memory that was read into.
"""

from sllmreal.loader.errors import (
    CheckpointInUseError,
    CheckpointStoreError,
    LoadCancelledError,
    PoolExhaustedError,
    RemoteError,
)
from sllmreal.loader.load import iter_tensors, load_checkpoint
from sllmreal.loader.pipeline import Cancellation
from sllmreal.loader.pool import ChunkPool
from sllmreal.loader.pretrained import load_pretrained
from sllmreal.loader.remote import load_remote, loading_remote
from sllmreal.loader.remote_storage import RetryOptions, remote_storage
from sllmreal.loader.shard import Shard, SplitRule
from sllmreal.loader.store_client import StoreClient, connect_store
from sllmreal.loader.transfer import LoadOptions

__all__ = [
    "Cancellation",
    "CheckpointInUseError",
    "CheckpointStoreError",
    "ChunkPool",
    "LoadCancelledError",
    "LoadOptions",
    "PoolExhaustedError",
    "RemoteError",
    "RetryOptions",
    "Shard",
    "SplitRule",
    "StoreClient",
    "connect_store",
    "iter_tensors",
    "load_checkpoint",
    "load_pretrained",
    "load_remote",
    "loading_remote",
    "remote_storage",
]
