"""One pool per server, shared by processes; a client that dies holds nothing."""

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from experiments.campaigns.checkpoint.samples import assert_same, saved, small_model
from sllmcore.errors import UsageError
from sllmreal.checkpoint import BadCheckpointError, CorruptCheckpointError
from sllmreal.loader import (
    CheckpointInUseError,
    ChunkPool,
    DaemonError,
    PoolExhaustedError,
    Shard,
    wire,
)
from sllmreal.loader.client import PoolClient
from sllmreal.loader.daemon import running_daemon

MIB = 1 << 20


@contextmanager
def served(root: Path, pool_bytes: int = 8 * MIB) -> Iterator[tuple[Path, ChunkPool]]:
    """A daemon over `root`; its socket and its pool."""
    path = root / "pool.sock"
    with (
        ChunkPool(pool_bytes, chunk_bytes=2 * MIB) as pool,
        running_daemon(pool, root, path),
    ):
        yield path, pool


def test_a_client_sees_the_models_tensors(tmp_path: Path) -> None:
    layout = saved(tmp_path / "model", num_partitions=2)
    with served(tmp_path) as (path, _), PoolClient(path, tmp_path) as client:
        lease = client.load("model")
        assert_same(lease.tensors, small_model())
        report = client.report()

    assert report.resident_bytes == {layout.identity: layout.size_bytes}
    assert report.models == {layout.identity: "model"}


def test_two_clients_share_one_copy(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    with (
        served(tmp_path) as (path, pool),
        PoolClient(path, tmp_path) as one,
        PoolClient(path, tmp_path) as other,
    ):
        first, second = one.load("model"), other.load("model")
        assert pool.status().num_free == 3
        first.tensors["lm_head.weight"].zero_()
        assert_same(second.tensors, small_model())


def test_a_shard_loads_only_its_part(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    with served(tmp_path) as (path, _), PoolClient(path, tmp_path) as client:
        name = "model.layers.0.self_attn.q_proj.weight"
        lease = client.load("model", Shard(1, 2))
        assert_same({name: lease.tensors[name]}, {name: small_model()[name][32:]})


def test_eviction_waits_for_the_lease_and_for_its_tensors(tmp_path: Path) -> None:
    layout = saved(tmp_path / "model")
    with served(tmp_path) as (path, pool), PoolClient(path, tmp_path) as client:
        lease = client.load("model")
        with pytest.raises(CheckpointInUseError):
            client.evict(layout.identity)
        held = lease.tensors["lm_head.weight"]
        with pytest.raises(CheckpointInUseError):
            client.release(lease)
        del held
        client.release(lease)
        assert client.evict(layout.identity) == layout.size_bytes
        assert pool.status().num_free == pool.status().num_chunks


def test_errors_of_the_daemon_arrive_as_themselves(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    saved(tmp_path / "bad")
    with (tmp_path / "bad" / "partition-00000.bin").open("r+b") as file:
        file.write(b"\xff" * 100)
    with served(tmp_path, 2 * MIB) as (path, pool), PoolClient(path, tmp_path) as client:
        with pytest.raises(CorruptCheckpointError, match="differs"):
            client.load("bad")
        with pytest.raises(BadCheckpointError):
            client.load("missing")
        client.load("model")
        saved(tmp_path / "other", num_partitions=2)
        with pytest.raises(PoolExhaustedError):
            client.load("other")
        assert pool.status().num_free == 0


@pytest.mark.parametrize("model", ["../model", "/etc", "", ".", "a//b", "a/../model", "m\0"])
def test_names_that_leave_the_root_are_refused(tmp_path: Path, model: str) -> None:
    saved(tmp_path / "model")
    saved(tmp_path / "root" / "model")
    root = tmp_path / "root"

    with (
        served(root) as (path, _),
        PoolClient(path, root) as client,
        pytest.raises(UsageError, match="no model"),
    ):
        client._asked(wire.Load(model))


def test_the_socket_is_for_this_user_only(tmp_path: Path) -> None:
    with served(tmp_path) as (path, _):
        assert path.stat().st_mode & 0o777 == 0o600


GARBAGE = [b"", b"\0", b"\xff" * 64, struct.pack("<I", 5) + b"hello", struct.pack("<I", 1 << 31)]


@pytest.mark.parametrize("garbage", GARBAGE, ids=["none", "zero", "ones", "text", "huge"])
def test_garbage_ends_the_connection_and_nothing_else(tmp_path: Path, garbage: bytes) -> None:
    saved(tmp_path / "model")
    with served(tmp_path) as (path, _):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(path))
            stranger.sendall(garbage)
            stranger.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):  # what it did not read, it resets
                assert stranger.recv(1) == b""
        with PoolClient(path, tmp_path) as client:
            assert_same(client.load("model").tensors, small_model())


def test_without_a_daemon_the_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(DaemonError, match="no daemon"):
        PoolClient(tmp_path / "none.sock", tmp_path)


CLIENT = """
import sys, time
from pathlib import Path
from sllmreal.loader.client import PoolClient
client = PoolClient(Path(sys.argv[1]), Path(sys.argv[2]))
lease = client.load("model")
print(int(lease.tensors["lm_head.weight"].float().nan_to_num().abs().sum() > 0), flush=True)
time.sleep(60)
"""


def test_a_client_killed_with_its_lease_holds_nothing(tmp_path: Path) -> None:
    layout = saved(tmp_path / "model")
    with served(tmp_path) as (path, pool):
        command = [sys.executable, "-c", CLIENT, str(path), str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == b"1\n"
            with pytest.raises(CheckpointInUseError):
                pool.evict(layout.identity)
            client.kill()
        deadline_s = time.monotonic() + 5
        while pool.status().resident_bytes and time.monotonic() < deadline_s:
            try:
                pool.evict(layout.identity)
            except CheckpointInUseError:
                time.sleep(0.01)

        assert pool.status().num_free == pool.status().num_chunks


def test_the_daemon_serves_as_a_process_of_its_own_and_stops_when_told(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    path = tmp_path / "pool.sock"
    command = [sys.executable, "-m", "sllmreal.loader.daemon", "--socket", str(path)]
    command += ["--root", str(tmp_path), "--pool-bytes", str(4 * MIB), "--chunk-bytes"]
    with subprocess.Popen([*command, str(2 * MIB)]) as daemon:
        deadline_s = time.monotonic() + 30
        while not path.exists() and time.monotonic() < deadline_s:
            time.sleep(0.02)
        time.sleep(0.1)
        with PoolClient(path, tmp_path) as client:
            assert_same(client.load("model").tensors, small_model())
        os.kill(daemon.pid, signal.SIGTERM)
        assert daemon.wait(10) == 0

    assert not path.exists()
