"""Resumable loads from remote storage that write a copy to the SSD at the same time.

    remote -> memory -> verified -> tensors -> SSD cache, each on its own threads.

The cache is a directory of checkpoints named by identity. After an interruption, the next load
takes the stored chunks from the SSD and hashes them again. A complete copy is published atomically.
"""

import mmap
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from sllmreal.checkpoint.errors import StorageError
from sllmreal.checkpoint.layout import Layout, TensorEntry
from sllmreal.checkpoint.source import opened_checkpoint
from sllmreal.checkpoint.staging import staged
from sllmreal.loader.load import Device, LoadRequest, chosen_devices, load_layout
from sllmreal.loader.plan import plan_load
from sllmreal.loader.pool import ChunkPool
from sllmreal.loader.reading import opened_reader
from sllmreal.loader.remote_model import RemoteModel, remote_model
from sllmreal.loader.remote_storage import RemoteStorage
from sllmreal.loader.transfer import DEFAULT_OPTIONS, LoadOptions, PartitionReader, verify_chunk
from sllmreal.loader.write_through import JOURNAL_FILE, RemoteReader, WriteThrough, opened_copy


def load_remote(
    storage: RemoteStorage,
    cache: Path | None,
    device: Device = "cpu",
    *,
    pool: ChunkPool | None = None,
    options: LoadOptions = DEFAULT_OPTIONS,
) -> dict[str, torch.Tensor]:
    """Load all tensors of the checkpoint in `storage`: our format, or safetensors.

    If `cache` has a copy, the copy is loaded; else one is written there. None keeps no copy.
    Raises RemoteError if the storage keeps failing and CorruptCheckpointError for a wrong byte of
    our format; verified chunks stay in the cache. Other errors as in `load_checkpoint`.
    """
    with loading_remote(storage, cache, device, pool=pool, options=options) as tensors:
        return tensors


@contextmanager
def loading_remote(
    storage: RemoteStorage,
    cache: Path | None,
    device: Device = "cpu",
    *,
    pool: ChunkPool | None = None,
    options: LoadOptions = DEFAULT_OPTIONS,
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the tensors as soon as all are verified, without waiting for a slow SSD.

    The copy is complete when the context ends; until then the tensors must not be written to.
    Raises as `load_remote`; errors of the copy are raised at the end.
    """
    arrived: Future[dict[str, torch.Tensor]] = Future()

    def load() -> None:
        _load(storage, cache, LoadRequest(chosen_devices(device), pool, None, options), arrived)

    with ThreadPoolExecutor(1, "remote load") as thread:
        copied = thread.submit(load)
        copied.add_done_callback(lambda done: _pass_on(done.exception(), arrived))
        yield arrived.result()
        copied.result()


def _pass_on(error: BaseException | None, arrived: "Future[dict[str, torch.Tensor]]") -> None:
    if error is not None and not arrived.done():
        arrived.set_exception(error)


def _load(
    storage: RemoteStorage,
    cache: Path | None,
    request: LoadRequest,
    arrived: "Future[dict[str, torch.Tensor]]",
) -> None:
    model = remote_model(storage, Path(cache or "."))
    layout = model.layout
    if cache is None or not model.recognisable:
        _deliver(layout, RemoteReader(storage, layout), request, arrived)
        return
    local = Path(cache) / layout.identity
    if _exists(local):
        with opened_checkpoint(local) as opened, opened_reader(opened) as reader:
            # Safetensors files have no identity of their own; in a pool it must not change.
            same = replace(opened.layout, identity=layout.identity)
            _deliver(same, reader, request, arrived)
        return
    pool, options = request.pool, request.options
    with (
        staged(local, replace=False) as stage,
        opened_copy(stage.path, storage, layout) as copy,
    ):
        _deliver(layout, copy, request, arrived)
        if _completed(copy, model, stage.path, pool.chunk_bytes if pool else options.chunk_bytes):
            stage.publish()


def _deliver(
    layout: Layout,
    reader: PartitionReader,
    request: LoadRequest,
    arrived: "Future[dict[str, torch.Tensor]]",
) -> None:
    """Load the tensors and set the result of `arrived` when the last one is complete."""
    tensors: dict[str, torch.Tensor] = {}

    def arrive(entry: TensorEntry, tensor: torch.Tensor) -> None:
        tensors[entry.name] = tensor
        if len(tensors) == len(layout.tensors):
            arrived.set_result({entry.name: tensors[entry.name] for entry in layout.tensors})

    if not layout.tensors:
        arrived.set_result({})
    load_layout(layout, reader, request, arrive, keep_landed=True)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise StorageError(f"cannot look for {path}: {error}") from error


def _completed(copy: WriteThrough, model: RemoteModel, directory: Path, chunk_bytes: int) -> bool:
    """Add the bytes outside tensors (a header) and the small files to the copy.

    Return False if the copy is incomplete because chunks were resident and so were not received.
    """
    missing = copy.missing(chunk_bytes)
    if {read.key for read in plan_load(model.layout, chunk_bytes).reads} & {
        read.key for read in missing
    }:
        return False
    if missing:
        buffer = torch.frombuffer(mmap.mmap(-1, chunk_bytes), dtype=torch.uint8)
        for read in missing:
            copy.read_into(read, buffer.data_ptr())
            if model.layout.chunk_bytes is not None:
                verify_chunk(model.layout, read, buffer.data_ptr())
            copy.keep(read, buffer.data_ptr())
    copy.sync()
    model.write_rest(directory)
    (directory / JOURNAL_FILE).unlink()
    return True
