"""Creation of checkpoints from safetensors, PyTorch files, adapters, or tensors in memory."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sllmreal.checkpoint.arrange import DEFAULT_CHUNK_BYTES, SourceTensor, arrange
from sllmreal.checkpoint.assets import asset_files, copy_assets
from sllmreal.checkpoint.errors import BadCheckpointError, StorageError
from sllmreal.checkpoint.execution_order import execution_order
from sllmreal.checkpoint.index import ASSET_DIRECTORY, INDEX_FILE, encode_index
from sllmreal.checkpoint.layout import Layout
from sllmreal.checkpoint.pickled import pickled_files, pickled_source
from sllmreal.checkpoint.shards import SHARD_INDEXES
from sllmreal.checkpoint.staging import Staging, staged, write_durably
from sllmreal.checkpoint.tensor_source import StateDictSource, TensorSource, layout_source
from sllmreal.checkpoint.writer import JOURNAL_FILE, Progress, write_partitions

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """The layout of a new checkpoint.

    Attributes:
        num_partitions: Number of target GPUs that load at the same time.
        chunk_bytes: Bytes per hash.
        order: Tensor names in execution order; None: guessed from the names.
        replace: Allow replacing a checkpoint that exists at the target.
    """

    num_partitions: int = 1
    chunk_bytes: int = DEFAULT_CHUNK_BYTES
    order: Sequence[str] | None = None
    replace: bool = False


def convert(
    source: Path,
    target: Path,
    options: WriteOptions = WriteOptions(),
    progress: Progress | None = None,
) -> Layout:
    """Convert the weights at `source` into a checkpoint at `target`, published atomically.

    An interrupted conversion resumes when it is called again. Raises BadCheckpointError for a bad
    source, StorageError for a failing disk and UsageError for a target that exists (without
    `options.replace`) or that another process writes; the target is unchanged then.
    """
    source = Path(source)
    with _opened_source(source) as tensors, staged(Path(target), replace=options.replace) as stage:
        assets = asset_files(_asset_directory(source))
        return _write(
            source=tensors, assets=assets, stage=stage, options=options, progress=progress
        )


def save_checkpoint(
    state_dict: Mapping[str, "torch.Tensor"],
    target: Path,
    options: WriteOptions = WriteOptions(),
    assets: Sequence[Path] = (),
) -> Layout:
    """Write tensors in memory as a checkpoint at `target`, published atomically.

    `assets` are files to copy into it. Raises as `convert`.
    """
    with staged(Path(target), replace=options.replace) as stage:
        return _write(
            source=StateDictSource(state_dict),
            assets=list(assets),
            stage=stage,
            options=options,
            progress=None,
        )


@contextmanager
def _opened_source(source: Path) -> Iterator[TensorSource]:
    try:
        with _source_of_its_kind(source) as tensors:
            yield tensors
    except OSError as error:
        raise StorageError(f"reading {source}: {error}") from error


def _source_of_its_kind(source: Path) -> AbstractContextManager[TensorSource]:
    pickled = pickled_files(source)
    native = (source / INDEX_FILE).exists() or source.suffix == ".safetensors"
    sharded = any((source / name).exists() for name in SHARD_INDEXES)
    if pickled and not native and not sharded and not any(source.glob("*.safetensors")):
        return pickled_source(pickled)
    return layout_source(source)


def _asset_directory(source: Path) -> Path:
    if source.is_file():
        return source.parent
    inside = source / ASSET_DIRECTORY
    return inside if (source / INDEX_FILE).exists() and inside.is_dir() else source


def _write(
    source: TensorSource,
    assets: list[Path],
    stage: Staging,
    options: WriteOptions,
    progress: Progress | None,
) -> Layout:
    ordered = _ordered(source.tensors, options.order)
    arrangement = arrange(ordered, stage.target, options.chunk_bytes, options.num_partitions)
    layout = write_partitions(arrangement, source, stage.path, progress)
    layout = replace(layout, assets=copy_assets(assets, stage.path), metadata=dict(source.metadata))
    index = encode_index(layout)
    write_durably(stage.path / INDEX_FILE, index)
    (stage.path / JOURNAL_FILE).unlink()
    stage.publish()
    return replace(layout, identity=index[32:64].hex())


def _ordered(
    tensors: Sequence[SourceTensor], order: Sequence[str] | None
) -> Sequence[SourceTensor]:
    by_name = {tensor.name: tensor for tensor in tensors}
    names = execution_order(by_name) if order is None else list(order)
    if order is not None and sorted(names) != sorted(by_name):
        raise BadCheckpointError(
            "order must list the name of every tensor exactly once, and no other name"
        )
    return [by_name[name] for name in names]
