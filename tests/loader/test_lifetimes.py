"""Closed means closed: use after close raises a typed error and touches no memory or descriptor."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.campaigns.checkpoint.samples import (
    assert_same,
    random_tensor,
    saved,
    small_model,
)
from sllmreal.checkpoint import save_checkpoint
from sllmreal.checkpoint.convert import WriteOptions
from sllmreal.checkpoint.errors import ClosedError
from sllmreal.checkpoint.opening import opened_file, read_exactly
from sllmreal.checkpoint.source import opened_checkpoint
from sllmreal.loader import ChunkPool, LoadOptions, iter_tensors, load_checkpoint, remote_storage
from sllmreal.loader.device import registered
from sllmreal.loader.ledger import ResidentChunk
from sllmreal.loader.memory import reserve_image
from sllmreal.loader.plan import ChunkKey, plan_load
from sllmreal.loader.reading import opened_reader
from sllmreal.loader.write_through import opened_copy
from tests.loader.range_server import Behaviour, serving
from tests.loader.test_load import MIB, large_model, open_descriptors
from tests.loader.test_remote import FAST

CHUNK = 2 * MIB


def new_pool(num_chunks: int = 8) -> ChunkPool:
    return ChunkPool(num_chunks * CHUNK, chunk_bytes=CHUNK)


class Bystanders:
    """Memory and files of other code that take the place of what was closed."""

    def __init__(self, directory: Path) -> None:
        self._content = b"U" * (16 * MIB)
        self._path = directory / "bystander"
        self._path.write_bytes(self._content)
        # The lowest free descriptors, among them those that were just closed.
        self._files = [self._path.open("r+b") for _ in range(16)]
        self._arrays = [np.full(8 * MIB, 5, dtype=np.uint8) for _ in range(8)]

    def __enter__(self) -> "Bystanders":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()
        assert self._path.read_bytes() == self._content, "a reused descriptor was written to"
        assert all((array == 5).all() for array in self._arrays), "freed memory was written to"


@pytest.mark.parametrize("resident", [False, True])
def test_a_closed_pool_takes_no_load(tmp_path: Path, resident: bool) -> None:
    """Seeded bug: a load into a closed pool writes to unmapped memory and a reused descriptor."""
    saved(tmp_path / "model")
    with new_pool() as pool:
        if resident:
            load_checkpoint(tmp_path / "model", pool=pool)

    with Bystanders(tmp_path), pytest.raises(ClosedError, match="the pool is closed"):
        load_checkpoint(tmp_path / "model", pool=pool)


USES: dict[str, Callable[[ChunkPool], object]] = {
    "address": lambda pool: pool.address,
    "chunk_address": lambda pool: pool.chunk_address(0),
    "fd": lambda pool: pool.fd,
    "status": lambda pool: pool.status(),
    "resident": lambda pool: pool.resident("x"),
    "evict": lambda pool: pool.evict("x"),
    "in_use": lambda pool: pool.in_use().__enter__(),
    "pinned": lambda pool: pool.pinned("x").__enter__(),
    "loading": lambda pool: pool.loading().__enter__(),
    "reserved": lambda pool: pool.reserved(1).__enter__(),
    "registered": lambda pool: registered(pool).__enter__(),
}


@pytest.mark.parametrize("use", USES)
def test_every_use_of_a_closed_pool_is_an_error(use: str) -> None:
    pool = new_pool(1)
    pool.close()

    with pytest.raises(ClosedError, match="the pool is closed"):
        USES[use](pool)


def test_a_pool_may_be_closed_twice(tmp_path: Path) -> None:
    before = open_descriptors()
    pool = new_pool(1)
    pool.close()
    with (tmp_path / "other").open("wb") as other:
        pool.close()
        other.write(b"x")
        other.flush()  # fails if the second close has closed this file

    assert open_descriptors() == before


@pytest.fixture
def slow_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Block every read of the chunks behind the first 2 MiB until the event is set."""
    goes_on = threading.Event()
    preadv = os.preadv

    def slow(fd: int, buffers: Any, offset: int) -> int:
        if offset >= CHUNK:
            assert goes_on.wait(30)
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", slow)
    yield goes_on
    goes_on.set()


def test_close_ends_a_running_load_and_waits_for_it(
    tmp_path: Path, slow_reads: threading.Event
) -> None:
    """Seeded bug: close unmaps the memory while the load reads into it."""
    save_checkpoint(large_model(), tmp_path / "model", WriteOptions(chunk_bytes=MIB))
    pool = new_pool()
    errors: list[BaseException] = []
    reading = threading.Event()

    def load() -> None:
        try:
            for _ in iter_tensors(tmp_path / "model", pool=pool):
                reading.set()
        except BaseException as error:
            errors.append(error)

    loading = threading.Thread(target=load)
    loading.start()
    assert reading.wait(30)
    closing = threading.Thread(target=pool.close)
    closing.start()
    closing.join(0.1)
    waited = closing.is_alive()
    slow_reads.set()
    closing.join(30)
    loading.join(30)

    assert waited, "close returned while a thread was reading into the pool"
    assert not closing.is_alive()
    assert [type(error) for error in errors] == [ClosedError]


def test_close_ends_loads_that_wait_for_their_turn(
    tmp_path: Path, slow_reads: threading.Event
) -> None:
    save_checkpoint(large_model(), tmp_path / "model", WriteOptions(chunk_bytes=MIB))
    saved(tmp_path / "other")
    pool = new_pool()
    errors: list[str] = []
    iterator = iter_tensors(tmp_path / "model", pool=pool)
    next(iterator)

    def load() -> None:
        try:
            load_checkpoint(tmp_path / "other", pool=pool)
        except ClosedError as error:
            errors.append(str(error))

    waiting = threading.Thread(target=load)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    slow_reads.set()
    pool.close()
    waiting.join(30)

    assert len(errors) == 1
    with pytest.raises(ClosedError):
        next(iterator)


def test_an_iterator_does_not_outlive_its_pool(tmp_path: Path) -> None:
    """Seeded bug: the iterator's thread goes on reading into memory that was unmapped."""
    model = {f"{n}": random_tensor(torch.int8, (MIB,), n) for n in range(12)}
    save_checkpoint(model, tmp_path / "model", WriteOptions(chunk_bytes=MIB))
    threads = threading.active_count()
    with new_pool() as pool:
        iterator = iter_tensors(tmp_path / "model", pool=pool)
        name, tensor = next(iterator)

    with Bystanders(tmp_path):
        assert threading.active_count() == threads
        with pytest.raises(ClosedError, match="the pool is closed"):
            next(iterator)
    assert_same({name: tensor}, {name: model[name]})


def test_an_iterator_of_a_finished_load_ends_with_its_pool(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    with new_pool() as pool:
        load_checkpoint(tmp_path / "model", pool=pool)
        iterator = iter_tensors(tmp_path / "model", pool=pool)
        next(iterator)

    with pytest.raises(ClosedError):
        next(iterator)


def test_an_iterator_begun_after_the_close_raises(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    with new_pool() as pool:
        iterator = iter_tensors(tmp_path / "model", pool=pool)

    with pytest.raises(ClosedError):
        next(iterator)


def test_a_reservation_commits_only_within_its_context() -> None:
    with new_pool(1) as pool:
        with pool.reserved(1) as reservation:
            (chunk,) = reservation.chunks

        with pytest.raises(ClosedError, match="reservation"):
            reservation.commit("x", {ChunkKey(0, 0): ResidentChunk(chunk, 1)})
        assert pool.status().num_free == 1
        assert pool.resident("x") == {}


def test_a_reservation_ends_without_error_while_its_pool_is_closed() -> None:
    pool = new_pool(1)
    with pool.reserved(1):
        closing = threading.Thread(target=pool.close)
        closing.start()
        closing.join(0.1)
        assert closing.is_alive(), "close returned while chunks were reserved"
    closing.join(30)

    assert not closing.is_alive()


def test_registered_memory_stays_mapped_until_it_is_unregistered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[str, int]] = []

    class Cudart:
        def cudaHostRegister(self, address: int, size_bytes: int, flags: int) -> int:  # noqa: N802
            calls.append(("register", address))
            return 0

        def cudaHostUnregister(self, address: int) -> None:  # noqa: N802
            assert is_pool_memory(address), "the memory was unmapped first"
            calls.append(("unregister", address))

    monkeypatch.setattr(torch.cuda, "cudart", Cudart)
    pool = new_pool(1)
    address = pool.address
    with registered(pool):
        pool.close()

    assert calls == [("register", address), ("unregister", address)]
    assert not is_pool_memory(address)


def is_pool_memory(address: int) -> bool:
    """Return True if a pool's shared memory is mapped at the address."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, mode, *_ = line.split()
        begin, end = (int(number, 16) for number in span.split("-"))
        if begin <= address < end and mode == "rw-s" and "memfd:sllm-pool" in line:
            return True
    return False


def test_a_reader_of_files_that_were_closed_raises(tmp_path: Path) -> None:
    """Seeded bug: the reader reads another file through a reused descriptor."""
    saved(tmp_path / "model")
    with opened_checkpoint(tmp_path / "model") as opened:
        with opened_reader(opened) as reader:
            (read, *_) = plan_load(opened.layout).reads
        image = reserve_image(read.size_bytes)
        with Bystanders(tmp_path), pytest.raises(ClosedError, match="closed"):
            reader.read_into(read, image.address)

    assert image.mapping.find(b"U") == -1
    with pytest.raises(ClosedError, match="closed"), opened.opened_partition(0):
        pytest.fail("a partition was opened in a closed directory")


def test_a_file_that_was_closed_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with opened_file(tmp_path / "file") as file:
        assert read_exactly(file, 7, 0, "file") == b"content"

    with Bystanders(tmp_path), pytest.raises(ClosedError, match="closed"):
        read_exactly(file, 7, 0, "file")


def test_a_copy_that_was_closed_writes_to_no_file(tmp_path: Path) -> None:
    """Seeded bug: the copy writes a chunk into another file through a reused descriptor."""
    layout = saved(tmp_path / "model")
    (tmp_path / "copy").mkdir()
    (read, *_) = plan_load(layout, CHUNK).reads
    image = reserve_image(CHUNK)
    with serving(Behaviour(tmp_path / "model")) as url, remote_storage(url, FAST) as storage:
        with opened_copy(tmp_path / "copy", storage, layout) as copy:
            copy.read_into(read, image.address)

        with Bystanders(tmp_path):
            with pytest.raises(ClosedError, match="closed"):
                copy.keep(read, image.address)
            with pytest.raises(ClosedError, match="closed"):
                copy.read_into(read, image.address)
            with pytest.raises(ClosedError, match="closed"):
                copy.sync()


def test_a_storage_that_was_closed_opens_no_connection(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    behaviour = Behaviour(tmp_path / "model")
    with serving(behaviour) as url:
        with remote_storage(url, FAST) as storage:
            storage.object_bytes("index.sllm")
        num_requests = len(behaviour.requests)

        with pytest.raises(ClosedError, match="closed"):
            storage.object_bytes("index.sllm")
        assert len(behaviour.requests) == num_requests


def test_a_pool_closed_under_many_loads_leaves_no_thread(tmp_path: Path) -> None:
    save_checkpoint(large_model(), tmp_path / "model", WriteOptions(chunk_bytes=MIB))
    threads, descriptors = threading.active_count(), open_descriptors()
    options = LoadOptions(num_readers=2, num_verifiers=1)
    for delay_s in (0.0, 0.002, 0.01, 0.03):
        pool = new_pool()
        ended: list[bool] = []

        def load(pool: ChunkPool = pool, ended: list[bool] = ended) -> None:
            try:
                tensors = load_checkpoint(tmp_path / "model", pool=pool, options=options)
                assert_same(tensors, large_model())
            except ClosedError:
                pass
            ended.append(True)

        loads = [threading.Thread(target=load) for _ in range(3)]
        for one in loads:
            one.start()
        threading.Event().wait(delay_s)
        pool.close()
        for one in loads:
            one.join(30)
        assert ended == [True] * 3

    assert (threading.active_count(), open_descriptors()) == (threads, descriptors)


def test_tensors_stay_valid_after_their_pool_is_closed(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    with new_pool() as pool:
        loaded = load_checkpoint(tmp_path / "model", pool=pool)

    with Bystanders(tmp_path):
        assert_same(loaded, small_model())
