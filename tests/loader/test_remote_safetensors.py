"""Plain safetensors from remote storage: equal tensors, and a copy if they have a version."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from experiments.campaigns.checkpoint.samples import assert_same, random_tensor, saved, small_model
from sllmreal.checkpoint import BadCheckpointError, export_safetensors
from sllmreal.loader import ChunkPool, LoadOptions, RemoteError
from tests.loader.range_server import Behaviour, serving
from tests.loader.test_remote import _wait_for_bytes as wait_for_bytes
from tests.loader.test_remote import loaded_from


def plain(directory: Path, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    directory.mkdir(exist_ok=True)
    save_file(tensors or small_model(), directory / "model.safetensors")
    (directory / "config.json").write_text('{"model_type": "llama"}')
    return directory


def sharded(directory: Path) -> Path:
    saved(directory.parent / "own")
    export_safetensors(directory.parent / "own", directory, max_shard_bytes=100_000)
    return directory


@pytest.mark.parametrize("make", [plain, sharded])
def test_remote_safetensors_load_and_are_kept_byte_for_byte(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    source = make(tmp_path / "model")
    behaviour = Behaviour(source)

    with serving(behaviour) as url:
        assert_same(loaded_from(url, tmp_path / "cache"), small_model())
        sent_bytes = behaviour.sent_bytes
        assert_same(loaded_from(url, tmp_path / "cache"), small_model())

    (copy,) = (tmp_path / "cache").iterdir()
    for file in source.iterdir():
        assert (copy / file.name).read_bytes() == file.read_bytes()
    assert behaviour.sent_bytes - sent_bytes < sent_bytes // 10


def test_a_header_longer_than_a_chunk_is_in_the_copy(tmp_path: Path) -> None:
    """Seeded bug: only chunks that hold a tensor are stored."""
    many = {f"{'x' * 150}{number}": torch.tensor([number]) for number in range(600)}
    source = plain(tmp_path / "model", many)

    with serving(Behaviour(source)) as url:
        assert_same(loaded_from(url, tmp_path / "cache"), many)

    (copy,) = (tmp_path / "cache").iterdir()
    original = (source / "model.safetensors").read_bytes()
    assert len(original) > 65536
    assert (copy / "model.safetensors").read_bytes() == original


def test_a_new_version_is_not_served_from_the_old_copy(tmp_path: Path) -> None:
    behaviour = Behaviour(plain(tmp_path / "model"))
    other = {name: random_tensor(one.dtype, one.shape, 7) for name, one in small_model().items()}

    with serving(behaviour) as url:
        loaded_from(url, tmp_path / "cache")
        plain(tmp_path / "model", other)
        behaviour.etag = '"2"'
        assert_same(loaded_from(url, tmp_path / "cache"), other)


def test_without_versions_no_copy_is_kept_in_cache_or_pool(tmp_path: Path) -> None:
    """Seeded bug: an identity is made of names, sizes and headers alone."""
    behaviour = Behaviour(plain(tmp_path / "model"), etag="")
    other = {name: random_tensor(one.dtype, one.shape, 7) for name, one in small_model().items()}

    with serving(behaviour) as url, ChunkPool(8 << 20, chunk_bytes=2 << 20) as pool:
        assert_same(loaded_from(url, tmp_path / "cache", pool=pool), small_model())
        plain(tmp_path / "model", other)
        assert_same(loaded_from(url, tmp_path / "cache", pool=pool), other)

    assert not (tmp_path / "cache").exists()


def test_the_copy_has_the_same_identity_in_a_pool_as_the_remote_files(tmp_path: Path) -> None:
    behaviour = Behaviour(plain(tmp_path / "model"))

    with serving(behaviour) as url, ChunkPool(8 << 20, chunk_bytes=2 << 20) as pool:
        for _ in range(2):
            assert_same(loaded_from(url, tmp_path / "cache", pool=pool), small_model())
        assert len(pool.status().resident_bytes) == 1


def test_an_interrupted_load_hashes_stored_chunks_before_it_uses_them(tmp_path: Path) -> None:
    """Seeded bug: chunks that the journal lists are used without a check."""
    source = plain(tmp_path / "model")
    size_bytes = (source / "model.safetensors").stat().st_size

    def refuse(offset: int) -> bool:
        if offset < 5 * 65536:
            return False
        (partial,) = (tmp_path / "cache").iterdir()
        wait_for_bytes(partial / "stored", least=64)  # two chunks: one will be changed
        return True

    behaviour = Behaviour(source, refuse=refuse)
    with serving(behaviour) as url:
        with pytest.raises(RemoteError):
            loaded_from(
                url, tmp_path / "cache", options=LoadOptions(chunk_bytes=65536, num_readers=1)
            )
        (partial,) = (tmp_path / "cache").iterdir()
        with (partial / "model.safetensors").open("r+b") as file:
            file.seek(20_000)
            file.write(b"spoilt")
        behaviour.refuse = lambda offset: False
        behaviour.sent_bytes = 0
        assert_same(loaded_from(url, tmp_path / "cache"), small_model())

    (copy,) = (tmp_path / "cache").iterdir()
    assert (copy / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    assert behaviour.sent_bytes < size_bytes


def test_a_file_that_is_not_safetensors_is_refused(tmp_path: Path) -> None:
    source = plain(tmp_path / "model")
    (source / "model.safetensors").write_bytes(b"\xff" * 4096)

    with serving(Behaviour(source)) as url, pytest.raises(BadCheckpointError):
        loaded_from(url, tmp_path / "cache")


def test_an_empty_storage_is_a_typed_error(tmp_path: Path) -> None:
    with serving(Behaviour(tmp_path)) as url, pytest.raises(RemoteError, match="neither"):
        loaded_from(url, tmp_path / "cache")
