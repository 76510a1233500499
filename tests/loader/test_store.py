"""A store shares one copy of a checkpoint between processes; a killed client frees its lease."""

import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from experiments.campaigns.checkpoint.samples import (
    assert_same,
    every_kind,
    random_tensor,
    saved,
    small_model,
)
from sllmcore.errors import UsageError
from sllmreal.checkpoint import BadCheckpointError, CorruptCheckpointError, save_checkpoint
from sllmreal.checkpoint.convert import WriteOptions
from sllmreal.loader import (
    CheckpointInUseError,
    CheckpointStoreError,
    ChunkPool,
    PoolExhaustedError,
    Shard,
    connect_store,
)
from sllmreal.loader import store_messages as messages
from sllmreal.loader.store_server import running_store
from sllmreal.loader.store_socket import connected_socket

MIB = 1 << 20
NAME = "model.layers.0.self_attn.q_proj.weight"


@contextmanager
def running(directory: Path, pool_bytes: int = 8 * MIB) -> Iterator[tuple[Path, ChunkPool]]:
    """Run a store in this process; yield its socket and its pool."""
    path = directory / "store.sock"
    with ChunkPool(pool_bytes, chunk_bytes=2 * MIB) as pool, running_store(pool, path):
        yield path, pool


def wait_for(condition: object, timeout_s: float = 20.0) -> None:
    """Wait until a function returns True."""
    assert callable(condition)
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not become true"
        time.sleep(0.01)


def test_a_client_gets_the_models_tensors(tmp_path: Path) -> None:
    layout = saved(tmp_path / "model", num_partitions=2)
    with running(tmp_path) as (path, _):
        store = connect_store(path)
        tensors = store.load_checkpoint(tmp_path / "model")
        assert_same(tensors, small_model())
        (one,) = store.status().checkpoints

    assert (one.name, one.path) == ("model", str(tmp_path / "model"))
    assert (one.identity, one.resident_bytes) == (layout.identity, layout.size_bytes)
    assert one.used_by == (os.getpid(),)


def test_every_kind_of_tensor_is_mapped(tmp_path: Path) -> None:
    save_checkpoint(every_kind(), tmp_path / "all", WriteOptions(chunk_bytes=4096))
    with running(tmp_path) as (path, _):
        assert_same(connect_store(path).load_checkpoint(tmp_path / "all"), every_kind())


CLIENT = """
import sys
from sllmreal.loader import connect_store
tensors = connect_store(sys.argv[1]).load_checkpoint(sys.argv[2])
print(tensors["lm_head.weight"].view(dtype=__import__("torch").uint8).sum().item(), flush=True)
sys.stdin.readline()
"""


@contextmanager
def client_process(path: Path, model: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a process that maps a checkpoint, and prints a sum of its bytes, until the end."""
    command = [sys.executable, "-c", CLIENT, str(path), str(model)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_two_processes_map_the_same_bytes(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    expected = int(small_model()["lm_head.weight"].view(torch.uint8).sum())
    with (
        running(tmp_path) as (path, pool),
        client_process(path, tmp_path / "model") as one,
        client_process(path, tmp_path / "model") as other,
    ):
        assert one.stdout is not None
        assert other.stdout is not None
        assert int(one.stdout.readline()) == expected
        assert int(other.stdout.readline()) == expected
        (checkpoint,) = connect_store(path).status().checkpoints

        assert set(checkpoint.used_by) == {one.pid, other.pid}
        assert pool.status().num_free == 3
        for process in (one, other):
            maps = Path(f"/proc/{process.pid}/maps").read_text()
            assert "memfd:sllm-pool" in maps


def test_a_write_to_a_tensor_changes_no_other_client(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    with running(tmp_path) as (path, _):
        store = connect_store(path)
        first = store.load_checkpoint(tmp_path / "model")
        second = store.load_checkpoint(tmp_path / "model")
        first["lm_head.weight"].zero_()

        assert_same(second, small_model())


def test_a_shard_loads_only_its_part(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    with running(tmp_path) as (path, _):
        tensors = connect_store(path).load_checkpoint(tmp_path / "model", shard=Shard(1, 2))

        assert_same({NAME: tensors[NAME]}, {NAME: small_model()[NAME][32:]})


def test_a_lease_lasts_as_long_as_any_tensor(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    with running(tmp_path) as (path, pool):
        store = connect_store(path)
        tensors = store.load_checkpoint(tmp_path / "model")
        with pytest.raises(
            CheckpointInUseError, match=rf"model is in use by process {os.getpid()}"
        ):
            store.evict("model")
        row = tensors[NAME][3]
        del tensors
        gc.collect()
        with pytest.raises(CheckpointInUseError):
            store.evict("model")
        assert torch.equal(row.view(torch.int16), small_model()[NAME][3].view(torch.int16))
        del row
        gc.collect()
        freed_bytes = store.evict("model")

        assert freed_bytes > 0
        assert pool.status().num_free == pool.status().num_chunks
        assert store.status().checkpoints == ()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_holds_the_lease_of_its_tensors(tmp_path: Path) -> None:
    """Seeded bug: the lease ends with the parent's tensors while the child uses the memory."""
    saved(tmp_path / "model")
    with running(tmp_path) as (path, _):
        store = connect_store(path)
        tensors = store.load_checkpoint(tmp_path / "model")
        ended, end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(end)
            os.read(ended, 1)
            os._exit(0)
        os.close(ended)
        del tensors
        gc.collect()
        with pytest.raises(CheckpointInUseError):
            store.evict("model")
        os.close(end)
        os.waitpid(child, 0)

        assert store.evict("model") > 0


def test_tensors_outlive_the_store(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    with running(tmp_path) as (path, _):
        store = connect_store(path)
        tensors = store.load_checkpoint(tmp_path / "model")

    assert_same(tensors, small_model())
    with pytest.raises(CheckpointStoreError, match="no store"):
        store.status()


def test_a_killed_client_releases_its_chunks(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    with (
        running(tmp_path) as (path, pool),
        client_process(path, tmp_path / "model") as client,
    ):
        assert client.stdout is not None
        client.stdout.readline()
        store = connect_store(path)
        with pytest.raises(CheckpointInUseError, match=f"process {client.pid}"):
            store.evict("model")
        client.kill()
        wait_for(lambda: not store.status().checkpoints[0].used_by)
        store.evict("model")

        assert pool.status().num_free == pool.status().num_chunks


def test_a_client_that_leaves_during_a_load_ends_the_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {f"{n}": random_tensor(torch.int8, (MIB,), n) for n in range(12)}
    save_checkpoint(model, tmp_path / "model", WriteOptions(chunk_bytes=MIB))
    preadv = os.preadv

    def slow(fd: int, buffers: object, offset: int) -> int:
        time.sleep(0.15)
        return preadv(fd, buffers, offset)  # type: ignore[arg-type]

    with running(tmp_path, 16 * MIB) as (path, pool):
        monkeypatch.setattr(os, "preadv", slow)
        monkeypatch.setattr("sllmreal.loader.store_server._PROGRESS_S", 0.0)
        with connected_socket(path) as connection:
            messages.send(connection, messages.StoreHello(messages.PROTOCOL_VERSION))
            _, fd = messages.receive_with_fd(connection, messages.StoreWelcome)
            assert fd is not None
            os.close(fd)
            messages.send(connection, messages.LoadCheckpoint(str(tmp_path / "model"), "model"))
        monkeypatch.setattr(os, "preadv", preadv)
        store = connect_store(path)
        wait_for(lambda: not any(one.used_by for one in store.status().checkpoints))
        tensors = store.load_checkpoint(tmp_path / "model")

        assert_same(tensors, model)
        assert pool.status().num_free == 2


def test_errors_of_the_store_are_raised_in_the_client(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    saved(tmp_path / "bad")
    with (tmp_path / "bad" / "partition-00000.bin").open("r+b") as file:
        file.write(b"\xff" * 100)
    with running(tmp_path, 2 * MIB) as (path, pool):
        store = connect_store(path)
        with pytest.raises(CorruptCheckpointError, match="differs"):
            store.load_checkpoint(tmp_path / "bad")
        with pytest.raises(BadCheckpointError):
            store.preload(tmp_path / "missing")
        assert pool.status().num_free == 1
        store.preload(tmp_path / "model")
        saved(tmp_path / "other", num_partitions=2)
        with pytest.raises(PoolExhaustedError, match=r"other: .* evict one of: model"):
            store.preload(tmp_path / "other")


def test_a_checkpoint_is_found_by_name_path_and_identity(tmp_path: Path) -> None:
    layout = saved(tmp_path / "model")
    with running(tmp_path) as (path, _):
        store = connect_store(path)
        for wanted in ("small", str(tmp_path / "model"), layout.identity[:8]):
            store.preload(tmp_path / "model", name="small")
            assert store.evict(wanted) == layout.size_bytes
        with pytest.raises(UsageError, match="no checkpoint 'small' in the store; it has: none"):
            store.evict("small")


def test_an_ambiguous_name_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "one" / "model")
    other = save_checkpoint(
        {"x": torch.zeros(3)}, tmp_path / "two" / "model", WriteOptions(chunk_bytes=4096)
    )
    with running(tmp_path) as (path, _):
        store = connect_store(path)
        store.preload(tmp_path / "one" / "model")
        store.preload(tmp_path / "two" / "model")
        with pytest.raises(UsageError, match=f"2 checkpoints match .*{other.identity[:12]}"):
            store.evict("model")
