"""Every fault of a load raises a typed error and leaves no memory, thread or descriptor."""

import ctypes
import errno
import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.campaigns.checkpoint.corruption import inject, inject_resident
from experiments.campaigns.checkpoint.samples import assert_same, random_tensor, saved, small_model
from sllmcore.errors import SllmError, UsageError
from sllmreal.checkpoint import CorruptCheckpointError, StorageError, save_checkpoint
from sllmreal.checkpoint.convert import WriteOptions
from sllmreal.loader import (
    Cancellation,
    ChunkPool,
    LoadCancelledError,
    LoadOptions,
    PoolExhaustedError,
    destination,
    load_checkpoint,
    memory,
)
from sllmreal.loader.memory import buffer_at
from sllmreal.loader.plan import ChunkKey
from tests.loader.test_load import MIB, SMALL, large_model, open_descriptors


@pytest.fixture
def pool() -> Iterator[ChunkPool]:
    with ChunkPool(16 * MIB, chunk_bytes=2 * MIB) as pool:
        yield pool


def test_an_exhausted_pool_is_a_typed_error_and_takes_nothing(
    tmp_path: Path, pool: ChunkPool
) -> None:
    model = {f"{n}": random_tensor(torch.int8, (3 * MIB,), n) for n in range(6)}
    save_checkpoint(model, tmp_path / "large", WriteOptions(chunk_bytes=MIB))
    saved(tmp_path / "small")

    with pytest.raises(PoolExhaustedError, match="9 chunks needed, 8 of 8 free"):
        load_checkpoint(tmp_path / "large", pool=pool)

    assert pool.status().num_free == 8
    assert_same(load_checkpoint(tmp_path / "small", pool=pool), small_model())


Fault = Callable[[int, Any, int], int]


def _failing(code: int) -> Fault:
    def fail(fd: int, buffers: Any, offset: int) -> int:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.EIO, errno.ENXIO, errno.EAGAIN])
def test_a_read_error_at_any_chunk_is_typed_and_leaves_nothing_behind(
    tmp_path: Path, pool: ChunkPool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(large_model(), tmp_path / "model", WriteOptions(chunk_bytes=MIB))
    preadv = os.preadv
    descriptors, threads = open_descriptors(), threading.active_count()

    for chunk in range(5):

        def faulty(fd: int, buffers: Any, offset: int, bad: int = chunk) -> int:
            if offset // (2 * MIB) == bad:
                return _failing(code)(fd, buffers, offset)
            return preadv(fd, buffers, offset)

        monkeypatch.setattr(os, "preadv", faulty)
        for options in ({"pool": pool}, {"options": LoadOptions(chunk_bytes=2 * MIB)}):
            with pytest.raises(StorageError):
                load_checkpoint(tmp_path / "model", **options)
        assert pool.status().num_free == 8
    gc.collect()

    assert (open_descriptors(), threading.active_count()) == (descriptors, threads)


def test_short_reads_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "model")
    preadv = os.preadv

    def short(fd: int, buffers: Any, offset: int) -> int:
        return preadv(fd, [memoryview(buffers[0])[:4096]], offset)

    monkeypatch.setattr(os, "preadv", short)

    assert_same(load_checkpoint(tmp_path / "model", options=SMALL), small_model())


def test_a_file_system_without_direct_io_is_read_through_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "model")
    opening = os.open

    def without_direct(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no direct I/O")
        return opening(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", without_direct)

    assert_same(load_checkpoint(tmp_path / "model", options=SMALL), small_model())


def test_a_file_truncated_while_it_is_read_is_a_typed_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "model")
    file = tmp_path / "model" / "partition-00000.bin"
    preadv = os.preadv

    def truncating(fd: int, buffers: Any, offset: int) -> int:
        os.truncate(file, 8192)
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", truncating)

    with pytest.raises(StorageError, match="truncated"):
        load_checkpoint(tmp_path / "model", options=SMALL)


def test_cancellation_at_every_chunk_leaves_the_pool_as_it_was(
    tmp_path: Path, pool: ChunkPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(large_model(), tmp_path / "model", WriteOptions(chunk_bytes=MIB))
    preadv = os.preadv
    for chunk in range(5):
        cancellation = Cancellation()

        def cancelling(
            fd: int, buffers: Any, offset: int, at: int = chunk, stop: Cancellation = cancellation
        ) -> int:
            if offset // (2 * MIB) == at:
                stop.cancel()
            return preadv(fd, buffers, offset)

        monkeypatch.setattr(os, "preadv", cancelling)
        with pytest.raises(LoadCancelledError):
            load_checkpoint(tmp_path / "model", pool=pool, cancellation=cancellation)
        assert pool.status().num_free == 8

    monkeypatch.setattr(os, "preadv", preadv)
    assert_same(load_checkpoint(tmp_path / "model", pool=pool), large_model())


def test_a_corrupt_chunk_is_never_resident(tmp_path: Path, pool: ChunkPool) -> None:
    layout = saved(tmp_path / "model")
    with (tmp_path / "model" / "partition-00000.bin").open("r+b") as file:
        file.seek(layout.size_bytes // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 16]))

    with pytest.raises(CorruptCheckpointError, match="differs from its hash"):
        load_checkpoint(tmp_path / "model", pool=pool)

    assert pool.status().resident_bytes == {}
    assert pool.status().num_free == 8


def test_three_hundred_corruptions_are_all_detected(tmp_path: Path) -> None:
    assert inject(300, seed=11, directory=tmp_path) == 300


def test_a_hundred_loads_leak_no_descriptor(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    load_checkpoint(tmp_path / "model", options=SMALL)
    before = open_descriptors()

    for _ in range(100):
        load_checkpoint(tmp_path / "model", options=SMALL)

    assert open_descriptors() == before


def test_memory_is_freed_with_the_last_tensor(tmp_path: Path) -> None:
    save_checkpoint({"x": random_tensor(torch.int8, (64 * MIB,), 1)}, tmp_path / "model")

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident_bytes()
    loaded = load_checkpoint(tmp_path / "model")
    held = resident_bytes() - before
    loaded.clear()
    gc.collect()
    after = resident_bytes() - before

    assert 63 * MIB <= held <= 72 * MIB
    assert after < 8 * MIB


def test_a_lack_of_memory_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "model")
    before = open_descriptors()
    monkeypatch.setattr(memory, "_advise", lambda *_: errno.ENOMEM)

    with pytest.raises(StorageError, match="memory"):
        load_checkpoint(tmp_path / "model", options=SMALL)

    assert open_descriptors() == before
    assert all("fault in" not in thread.name for thread in threading.enumerate())


def test_memory_is_faulted_in_before_a_chunk_is_read_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(large_model(), tmp_path / "model", WriteOptions(chunk_bytes=MIB))
    faulted_in: dict[int, int] = {}
    preadv = os.preadv
    populate = memory.populate

    def populated(address: int, size_bytes: int) -> None:
        populate(address, size_bytes)
        faulted_in[address] = size_bytes

    def reading(fd: int, buffers: Any, offset: int) -> int:
        address = ctypes.addressof(ctypes.c_char.from_buffer(buffers[0]))
        assert any(begin <= address < begin + size for begin, size in faulted_in.items())
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(destination, "populate", populated)
    monkeypatch.setattr(os, "preadv", reading)

    loaded = load_checkpoint(tmp_path / "model", options=LoadOptions(chunk_bytes=MIB))

    assert_same(loaded, large_model())
    assert len(faulted_in) == 9


@pytest.mark.parametrize("device", ["meta", "nowhere", ["cpu", "cuda"]])
def test_an_unknown_device_is_refused(tmp_path: Path, device: Any) -> None:
    saved(tmp_path / "model")

    with pytest.raises((UsageError, RuntimeError)):
        load_checkpoint(tmp_path / "model", device)


def test_errors_are_rooted(tmp_path: Path) -> None:
    with pytest.raises(SllmError):
        load_checkpoint(tmp_path / "nothing")


def test_corruptions_of_resident_chunks_are_detected_and_repaired(tmp_path: Path) -> None:
    """Seeded bug: resident chunks are handed out without a check."""
    assert inject_resident(40, seed=5, directory=tmp_path) == 40


VERIFIED = LoadOptions(verify_resident=True)


def _flip_a_resident_bit(pool: ChunkPool, identity: str) -> None:
    place = pool.chunk_address(pool.resident(identity)[ChunkKey(0, 0)])
    buffer_at(place + 5000, 1)[0] ^= 4


def test_a_corrupt_resident_chunk_is_an_error_until_its_file_can_be_read(
    tmp_path: Path, pool: ChunkPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = saved(tmp_path / "model")
    load_checkpoint(tmp_path / "model", pool=pool)
    _flip_a_resident_bit(pool, layout.identity)

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", _failing(errno.EIO))
        for options in (VERIFIED, LoadOptions()):  # known to be corrupt: not handed out
            with pytest.raises(StorageError):
                load_checkpoint(tmp_path / "model", pool=pool, options=options)

    assert_same(load_checkpoint(tmp_path / "model", pool=pool), small_model())
    gc.collect()
    assert pool.evict(layout.identity) == layout.size_bytes
    assert pool.status().num_free == 8


def test_repair_of_a_corrupt_chunk_reaches_the_tensors_that_use_it(
    tmp_path: Path, pool: ChunkPool
) -> None:
    layout = saved(tmp_path / "model")
    used = load_checkpoint(tmp_path / "model", pool=pool)
    _flip_a_resident_bit(pool, layout.identity)
    num_free = pool.status().num_free

    load_checkpoint(tmp_path / "model", pool=pool, options=VERIFIED)

    assert_same(used, small_model())
    assert pool.status().num_free == num_free
