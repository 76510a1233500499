"""Loads return the saved tensors, by every path, or raise typed errors."""

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from experiments.campaigns.checkpoint.samples import (
    assert_same,
    every_kind,
    random_tensor,
    same_bytes,
    saved,
    small_model,
)
from sllmreal.checkpoint import CorruptCheckpointError, convert, save_checkpoint
from sllmreal.checkpoint.convert import WriteOptions
from sllmreal.loader import (
    CheckpointInUseError,
    ChunkPool,
    LoadOptions,
    iter_tensors,
    load_checkpoint,
)

MIB = 1 << 20
SMALL = LoadOptions(chunk_bytes=65536, num_readers=3, num_verifiers=2, queue_chunks=2)


@pytest.fixture
def pool() -> Iterator[ChunkPool]:
    with ChunkPool(16 * MIB, chunk_bytes=2 * MIB) as pool:
        yield pool
        assert pool.status().num_chunks == 8


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def large_model() -> dict[str, torch.Tensor]:
    """Return a model of nine chunks of 1 MiB."""
    return {f"layers.{n}.weight": random_tensor(torch.int8, (1000, 1030), n) for n in range(9)}


@pytest.mark.parametrize("num_partitions", [1, 3])
def test_every_kind_of_tensor_is_loaded_as_it_was_saved(
    tmp_path: Path, num_partitions: int
) -> None:
    tensors = every_kind()
    options = WriteOptions(num_partitions, chunk_bytes=4096)
    save_checkpoint(tensors, tmp_path / "all", options)

    loaded = load_checkpoint(tmp_path / "all", options=SMALL)

    assert_same(loaded, tensors)
    assert loaded["strided"].stride() == tensors["strided"].stride()
    assert loaded["expanded"].stride() == (0, 1)
    tied = loaded["lm_head.weight"], loaded["embed_tokens.weight"]
    assert tied[0].untyped_storage().data_ptr() == tied[1].untyped_storage().data_ptr()


def test_every_kind_of_tensor_is_loaded_through_the_pool(tmp_path: Path, pool: ChunkPool) -> None:
    tensors = every_kind()
    save_checkpoint(tensors, tmp_path / "all", WriteOptions(chunk_bytes=4096))

    for _ in range(2):
        assert_same(load_checkpoint(tmp_path / "all", pool=pool), tensors)


def test_plain_safetensors_load_as_they_are(tmp_path: Path, pool: ChunkPool) -> None:
    save_file(small_model(), tmp_path / "model.safetensors")
    expected = load_file(tmp_path / "model.safetensors")

    assert_same(load_checkpoint(tmp_path / "model.safetensors", options=SMALL), expected)
    assert_same(load_checkpoint(tmp_path, pool=pool), expected)


def test_tightly_packed_safetensors_are_copied_to_aligned_places(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"I8","shape":[3],"data_offsets":[0,3]},'
    header += b'"b":{"dtype":"F64","shape":[2],"data_offsets":[3,19]}}'
    values = torch.tensor([1.5, -2.25], dtype=torch.float64)
    content = len(header).to_bytes(8, "little") + header + b"\1\2\3" + values.numpy().tobytes()
    (tmp_path / "odd.safetensors").write_bytes(content)

    loaded = load_checkpoint(tmp_path / "odd.safetensors")

    assert torch.equal(loaded["b"], values)
    assert loaded["b"].data_ptr() % 8 == 0


def test_the_iterator_yields_all_tensors_as_they_land(tmp_path: Path, pool: ChunkPool) -> None:
    saved(tmp_path / "model", num_partitions=2)

    assert_same(dict(iter_tensors(tmp_path / "model", options=SMALL)), small_model())
    assert_same(dict(iter_tensors(tmp_path / "model", pool=pool)), small_model())


def test_an_iterator_closed_early_leaves_nothing_behind(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    threads, descriptors = threading.active_count(), open_descriptors()

    iterator = iter_tensors(tmp_path / "model", options=SMALL)
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]

    assert (threading.active_count(), open_descriptors()) == (threads, descriptors)


def test_the_iterator_raises_the_error_of_the_load(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    with (tmp_path / "model" / "partition-00000.bin").open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(b"\xaa\x55")

    with pytest.raises(CorruptCheckpointError):
        dict(iter_tensors(tmp_path / "model", options=SMALL))


def test_a_hit_reads_nothing_and_shares_the_pool(
    tmp_path: Path, pool: ChunkPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "model")
    first = load_checkpoint(tmp_path / "model", pool=pool)
    monkeypatch.setattr(os, "preadv", lambda *arguments: pytest.fail("a hit must not read"))

    again = load_checkpoint(tmp_path / "model", pool=pool)

    assert_same(again, first)


def test_writing_to_a_tensor_changes_neither_the_pool_nor_other_loads(
    tmp_path: Path, pool: ChunkPool
) -> None:
    saved(tmp_path / "model")
    changed = load_checkpoint(tmp_path / "model", pool=pool)
    for tensor in changed.values():
        tensor.zero_()

    assert_same(load_checkpoint(tmp_path / "model", pool=pool), small_model())


def test_a_partly_resident_model_reads_only_the_rest(
    tmp_path: Path, pool: ChunkPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = large_model()
    layout = save_checkpoint(model, tmp_path / "model", WriteOptions(chunk_bytes=MIB))
    load_checkpoint(tmp_path / "model", pool=pool)
    gc.collect()
    freed = pool.evict(layout.identity, 3 * MIB)
    read_bytes = [0]
    preadv = os.preadv

    def counted(fd: int, buffers: Any, offset: int) -> int:
        got = preadv(fd, buffers, offset)
        read_bytes[0] += got
        return got

    monkeypatch.setattr(os, "preadv", counted)
    loaded = load_checkpoint(tmp_path / "model", pool=pool)

    assert 3 * MIB <= freed <= 5 * MIB
    assert read_bytes[0] == freed
    assert_same(loaded, model)


def test_a_model_in_use_is_not_evicted(tmp_path: Path, pool: ChunkPool) -> None:
    layout = saved(tmp_path / "model")
    loaded = load_checkpoint(tmp_path / "model", pool=pool)

    with pytest.raises(CheckpointInUseError):
        pool.evict(layout.identity)
    one = loaded["lm_head.weight"]
    del loaded
    with pytest.raises(CheckpointInUseError):
        pool.evict(layout.identity)
    del one
    freed = pool.evict(layout.identity)

    assert freed == layout.size_bytes
    assert pool.status().num_free == 8
    assert pool.evict(layout.identity) == 0


def test_tensors_outlive_the_pool(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    with ChunkPool(4 * MIB, chunk_bytes=2 * MIB) as pool:
        loaded = load_checkpoint(tmp_path / "model", pool=pool)

    assert_same(loaded, small_model())


def test_a_replaced_checkpoint_is_never_served_from_the_old_bytes(
    tmp_path: Path, pool: ChunkPool
) -> None:
    options = WriteOptions(chunk_bytes=4096, replace=True)
    for generation in range(20):
        model = {"weight": torch.full((300, 300), generation, dtype=torch.int16)}
        layout = save_checkpoint(model, tmp_path / "model", options)

        assert_same(load_checkpoint(tmp_path / "model", pool=pool), model)
        pool.evict(layout.identity)


def test_a_replaced_safetensors_file_is_never_served_from_the_old_bytes(
    tmp_path: Path, pool: ChunkPool
) -> None:
    for generation in range(10):
        model = {"weight": torch.full((30, 30), generation, dtype=torch.int16)}
        save_file(model, tmp_path / "new.safetensors")
        (tmp_path / "new.safetensors").rename(tmp_path / "model.safetensors")

        assert_same(load_checkpoint(tmp_path / "model.safetensors", pool=pool), model)
        for identity in pool.status().resident_bytes:
            pool.evict(identity)


def test_loads_from_many_threads_share_one_pool(tmp_path: Path, pool: ChunkPool) -> None:
    saved(tmp_path / "model")
    results: list[bool] = []

    def load() -> None:
        loaded = load_checkpoint(tmp_path / "model", pool=pool)
        results.append(all(same_bytes(loaded[name], t) for name, t in small_model().items()))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [True] * 8


def test_converted_and_plain_adapters_load_alike(tmp_path: Path) -> None:
    adapter = {f"layers.{n}.lora_A.weight": torch.randn(16, 128) for n in range(20)}
    (tmp_path / "lora").mkdir()
    save_file(adapter, tmp_path / "lora" / "adapter_model.safetensors")
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")

    convert(tmp_path / "lora", tmp_path / "ours")

    assert_same(load_checkpoint(tmp_path / "lora"), adapter)
    assert_same(load_checkpoint(tmp_path / "ours"), adapter)
