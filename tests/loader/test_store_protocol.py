"""The messages of a store: bad ones end only their connection, and no client can write."""

import mmap
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

import pytest

from experiments.campaigns.checkpoint.samples import assert_same, saved, small_model
from sllmcore.errors import UsageError
from sllmreal.loader import connect_store
from sllmreal.loader import store_messages as messages
from sllmreal.loader.store_socket import connected_socket
from tests.loader.test_store import running


def test_a_client_cannot_write_to_the_pool(tmp_path: Path) -> None:
    with running(tmp_path) as (path, _), connected_socket(path) as connection:
        messages.send(connection, messages.StoreHello(messages.PROTOCOL_VERSION))
        _, fd = messages.receive_with_fd(connection, messages.StoreWelcome)
        assert fd is not None
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            mmap.mmap(fd, 4096, mmap.MAP_SHARED)
        os.close(fd)


def test_a_range_outside_the_checkpoint_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    beyond = (messages.WantedRange(0, 0, 1 << 40),)
    with running(tmp_path) as (path, pool), connected_socket(path) as connection:
        messages.send(connection, messages.StoreHello(messages.PROTOCOL_VERSION))
        _, fd = messages.receive_with_fd(connection, messages.StoreWelcome)
        assert fd is not None
        os.close(fd)
        command = messages.LoadCheckpoint(str(tmp_path / "model"), "model", ranges=beyond)
        messages.send(connection, command)
        answer = messages.receive(connection, messages.CommandFailed)

        assert answer.kind == "UsageError"
        assert "outside" in answer.reason
        assert pool.status().num_free == pool.status().num_chunks


def test_a_client_of_another_release_gets_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path) as (path, _):
        monkeypatch.setattr("sllmreal.loader.store_client.PROTOCOL_VERSION", 1)
        with pytest.raises(UsageError, match="use the same release"):
            connect_store(path)


GARBAGE = [b"", b"\0", b"\xff" * 64, struct.pack("<I", 5) + b"hello", struct.pack("<I", 1 << 31)]


@pytest.mark.parametrize("garbage", GARBAGE, ids=["none", "zero", "ones", "text", "huge"])
def test_garbage_ends_only_its_connection(tmp_path: Path, garbage: bytes) -> None:
    saved(tmp_path / "model")
    with running(tmp_path) as (path, _):
        with socket.socket(socket.AF_UNIX) as intruder:
            intruder.connect(str(path))
            intruder.sendall(garbage)
            intruder.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):  # if the store did not read all of it
                assert intruder.recv(1) == b""
        assert_same(connect_store(path).load_checkpoint(tmp_path / "model"), small_model())
