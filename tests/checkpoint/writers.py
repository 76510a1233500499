"""All functions that publish a checkpoint, behind one protocol: for campaigns of faults.

Each writes generation `number`, a checkpoint in which every element is that number.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save_file

from experiments.campaigns.checkpoint.kills import OPTIONS, generation
from sllmcore.errors import SllmError
from sllmreal.checkpoint import convert, export_safetensors, save_checkpoint, verify
from sllmreal.checkpoint.assets import read_asset
from sllmreal.checkpoint.convert import WriteOptions
from sllmreal.checkpoint.errors import StorageError
from sllmreal.checkpoint.source import read_layout
from sllmreal.loader import ChunkPool, LoadOptions, load_checkpoint
from sllmreal.loader.memory import HUGE_PAGE_BYTES
from sllmreal.loader.remote import load_remote

_ONE_THREAD_EACH = LoadOptions(chunk_bytes=65536, num_readers=1, num_verifiers=1, num_writers=1)


class Writer(Protocol):
    """A publisher of generations at one target."""

    name: str

    def prepare(self, number: int) -> None:
        """Prepare the input of `write(number)`; never fails."""
        ...

    def write(self, number: int) -> None:
        """Publish generation `number`. Raises SllmError if it is not, or perhaps not, published."""
        ...

    def found(self) -> int | None:
        """Return the published generation, verified; None if none. Fails on a partial one."""
        ...

    def leftovers(self) -> list[str]:
        """Return the names of the entries beside the target."""
        ...


class _AtTarget:
    """The common part of the writers of one target."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "published"
        self.root.mkdir()
        self.target = self.root / "model"
        self.source = directory / "source"

    def found(self) -> int | None:
        return whole_generation(self.target) if self.target.exists() else None

    def leftovers(self) -> list[str]:
        return [entry.name for entry in self.root.iterdir() if entry != self.target]

    def _save_source(self, number: int) -> None:
        shutil.rmtree(self.source, ignore_errors=True)
        self.source.mkdir()
        save_file(generation(number), self.source / "model.safetensors")
        (self.source / "config.json").write_text(json.dumps({"generation": number}))


class Saving(_AtTarget):
    """Replacement of an old checkpoint by tensors in memory."""

    name = "save"

    def prepare(self, number: int) -> None:
        self.tensors = generation(number)

    def write(self, number: int) -> None:
        save_checkpoint(self.tensors, self.target, OPTIONS)


class Creating(Saving):
    """A first checkpoint from tensors in memory."""

    name = "create"

    def prepare(self, number: int) -> None:
        super().prepare(number)
        shutil.rmtree(self.target, ignore_errors=True)


class Converting(_AtTarget):
    """Replacement of an old checkpoint by converted safetensors and a configuration."""

    name = "convert"

    def prepare(self, number: int) -> None:
        self._save_source(number)

    def write(self, number: int) -> None:
        convert(self.source, self.target, OPTIONS)

    def found(self) -> int | None:
        number = super().found()
        if number is not None:
            config = read_asset(read_layout(self.target), "config.json")
            assert config == json.dumps({"generation": number}).encode(), (
                "assets of another generation"
            )
        return number


class Resuming(Converting):
    """The same conversion, resumed after an earlier attempt was cut off."""

    name = "resume"

    def prepare(self, number: int) -> None:
        super().prepare(number)

        def cut_off(done_bytes: int, total_bytes: int) -> None:
            if done_bytes * 4 > total_bytes * 3:
                raise StorageError("cut off")

        try:
            convert(self.source, self.target, OPTIONS, cut_off)
        except StorageError:
            return
        raise AssertionError("the attempt was not cut off")


class Exporting(_AtTarget):
    """Export of our format as sharded safetensors."""

    name = "export"

    def prepare(self, number: int) -> None:
        shutil.rmtree(self.target, ignore_errors=True)
        self._save_source(number)
        shutil.rmtree(self.source.with_suffix(".ours"), ignore_errors=True)
        convert(self.source, self.source.with_suffix(".ours"), OPTIONS)

    def write(self, number: int) -> None:
        export_safetensors(self.source.with_suffix(".ours"), self.target, max_shard_bytes=40_000)


class Copying(_AtTarget):
    """The SSD copy that a load from remote storage writes."""

    name = "copy"

    def prepare(self, number: int) -> None:
        for copy in self.root.iterdir():
            if not copy.name.startswith("."):
                shutil.rmtree(copy)
        self._save_source(number)
        shutil.rmtree(self.target, ignore_errors=True)
        shutil.rmtree(self.source.with_suffix(".ours"), ignore_errors=True)
        convert(self.source, self.source.with_suffix(".ours"), WriteOptions(2, 4096))
        self.storage = _Directory(self.source.with_suffix(".ours"))

    def write(self, number: int) -> None:
        loaded = load_remote(self.storage, self.root, options=_ONE_THREAD_EACH)
        assert generation_of(loaded) == number, "the load returned wrong tensors"

    def found(self) -> int | None:
        copies = [entry for entry in self.root.iterdir() if not entry.name.startswith(".")]
        assert len(copies) <= 1
        return whole_generation(copies[0]) if copies else None

    def leftovers(self) -> list[str]:
        # A partial copy of one model is kept for that model's next load and blocks no other model.
        return []


class Loading(_AtTarget):
    """A load, which publishes nothing: it must return the right tensors or raise a typed error."""

    name = "load"

    def prepare(self, number: int) -> None:
        save_checkpoint(generation(number), self.target, OPTIONS)

    def write(self, number: int) -> None:
        loaded = load_checkpoint(self.target, options=_ONE_THREAD_EACH)
        assert generation_of(loaded) == number, "the load returned wrong tensors"


class LoadingIntoPool(Loading):
    """The same through a pool: after an error all chunks must be free again."""

    name = "load into a pool"

    def write(self, number: int) -> None:
        with ChunkPool(4 * HUGE_PAGE_BYTES, HUGE_PAGE_BYTES) as pool:
            try:
                loaded = load_checkpoint(self.target, pool=pool, options=_ONE_THREAD_EACH)
            except SllmError:
                assert pool.status().num_free == 4, "chunks are lost"
                raise
            assert generation_of(loaded) == number, "the load returned wrong tensors"
            assert pool.status().num_free == 2


class _Directory:
    """Remote storage in memory, without a network."""

    def __init__(self, root: Path) -> None:
        self._content = {
            str(file.relative_to(root)): file.read_bytes()
            for file in root.rglob("*")
            if file.is_file()
        }

    def object_bytes(self, name: str) -> int:
        return len(self._content[name])

    def read_into(self, name: str, offset_bytes: int, target: memoryview) -> None:
        target[:] = self._content[name][offset_bytes : offset_bytes + len(target)]

    def version(self, name: str) -> str | None:
        return None


def whole_generation(path: Path) -> int:
    """Return the generation at `path`; fail unless every byte is right and of one generation."""
    if (path / "index.sllm").exists():
        verify(path)
    return generation_of(load_checkpoint(path, options=_ONE_THREAD_EACH))


def generation_of(tensors: Mapping[str, torch.Tensor]) -> int:
    values = {value for tensor in tensors.values() for value in set(tensor.flatten().tolist())}
    assert len(tensors) == 4, "tensors are missing"
    assert len(values) == 1, f"generations {values} mixed"
    return int(values.pop())


WRITERS: dict[str, Callable[[Path], Writer]] = {
    "save": Saving,
    "create": Creating,
    "convert": Converting,
    "resume": Resuming,
    "export": Exporting,
    "copy": Copying,
    "load": Loading,
    "load into a pool": LoadingIntoPool,
}
