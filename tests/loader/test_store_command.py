"""The socket and the commands of a store: `sllm store serve`, `load`, `status` and `evict`."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from experiments.campaigns.checkpoint.samples import assert_same, saved, small_model
from sllmcore.errors import UsageError
from sllmreal.cli.main import main
from sllmreal.cli.store import DEFAULT_SOCKET as CLI_SOCKET
from sllmreal.loader import CheckpointStoreError, connect_store
from sllmreal.loader.store_socket import DEFAULT_SOCKET, listening_socket
from tests.loader.test_store import running


def test_without_a_store_the_error_gives_the_command(tmp_path: Path) -> None:
    path = tmp_path / "none.sock"
    with pytest.raises(CheckpointStoreError, match=f"sllm store serve --socket {path}"):
        connect_store(path)


def test_the_socket_is_for_this_user_only(tmp_path: Path) -> None:
    with running(tmp_path) as (path, _):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "store.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()

    with running(tmp_path) as (path, _):
        assert connect_store(path).status().pid == os.getpid()


def test_a_second_store_at_a_socket_is_refused_with_the_process(tmp_path: Path) -> None:
    with (
        running(tmp_path) as (path, _),
        pytest.raises(UsageError, match=f"process {os.getpid()} serves a store at"),
        listening_socket(path),
    ):
        pytest.fail("two stores listen at a socket")


def test_a_file_that_is_not_a_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "store.sock"
    path.write_text("precious")

    with pytest.raises(UsageError, match="not a socket"), listening_socket(path):
        pytest.fail("a file was replaced")

    assert path.read_text() == "precious"


@contextmanager
def served(path: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `sllm store serve` until the end; yield the process when it serves."""
    command = [sys.executable, "-m", "sllmreal.cli", "store", "serve", "--socket", str(path)]
    with subprocess.Popen(
        [*command, "--pool-gb", "0.02", "--chunk-mb", "2", *options],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert "store of 18.87 MB" in process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_the_commands_serve_load_show_and_evict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = saved(tmp_path / "model")
    path = tmp_path / "store.sock"
    where = ["--socket", str(path)]
    with served(path) as process:
        assert main(["store", "load", str(tmp_path / "model"), *where]) == 0
        assert capsys.readouterr().out.startswith("model: 0.46 MB in ")
        assert main(["store", "load", str(tmp_path / "model"), "--json", *where]) == 0
        assert json.loads(capsys.readouterr().out)["read_bytes"] == 0
        assert main(["store", "status", *where]) == 0
        assert str(tmp_path / "model") in capsys.readouterr().out
        assert main(["store", "status", "--json", *where]) == 0
        status = json.loads(capsys.readouterr().out)
        assert status["pid"] == process.pid
        assert status["checkpoints"][0]["identity"] == layout.identity
        assert main(["store", "serve", *where]) == 2
        assert f"process {process.pid} serves a store" in capsys.readouterr().err
        assert main(["store", "evict", "model", *where]) == 0
        assert main(["store", "evict", "model", *where]) == 2
        assert main(["store", "load", str(tmp_path / "none"), *where]) == 2
        assert main(["store", "serve", "--pool-gb", "1e6", *where]) == 2
        assert "--pool-gb must be positive and at most" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_store_cleanly(tmp_path: Path, number: int) -> None:
    saved(tmp_path / "model")
    path = tmp_path / "store.sock"
    with served(path) as process:
        tensors = connect_store(path).load_checkpoint(tmp_path / "model")
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "store ended\n"

    assert not path.exists()
    assert_same(tensors, small_model())


def test_a_store_starts_after_another_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "store.sock"
    with served(path) as process:
        process.kill()
        process.wait()
    assert path.exists()

    with served(path) as process:
        assert connect_store(path).status().pid == process.pid


def test_the_command_and_the_library_have_the_same_default_socket() -> None:
    assert CLI_SOCKET == DEFAULT_SOCKET
