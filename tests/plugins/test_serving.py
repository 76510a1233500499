"""An engine, a store and a policy from outside, in a cluster that `sllm serve` runs."""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sllmreal.cli.main import main
from tests.plugins.toys import TIMEOUT_S, called, environment

SLLM = "sllmreal.cli"


@contextmanager
def served(toys: Path, home: Path, *options: str) -> Iterator[int]:
    """Run `sllm serve`; yield its port. The home's path is short: sockets lie in it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", SLLM, "serve", "--home", str(home), "--port", str(port)]
    sizes = ("--gpu-memory-gb", "0.01", "--dram-gb", "0.01", "--spares", "0")
    with (toys / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *sizes, *options], env=environment(toys), stdout=log, stderr=log
        )
    try:
        _wait_for(port, process, toys / "serve.log")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT_S)


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until_s = time.monotonic() + TIMEOUT_S
    while process.poll() is None and time.monotonic() < until_s:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)  # a process that starts gives no other sign
    raise AssertionError(log.read_text())


def completion(port: int, model: str) -> list[int]:
    """Return the token ids of an answer."""
    body = {"model": model, "prompt": [1, 2, 3], "max_tokens": 4, "ignore_eos": True}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        answer: dict[str, Any] = json.load(response)
    tokens: list[int] = answer["choices"][0]["token_ids"]
    return tokens


def test_a_cluster_runs_an_engine_a_store_and_a_policy_from_outside(toys: Path) -> None:
    """The model has no weights: any directory will do, on a worker that loads weights too."""
    with tempfile.TemporaryDirectory() as directory:
        home, database = Path(directory) / "h", toys / "toy.db"
        policy = ("--policy", "toy", "--set", "patience=2", "max_candidates=3")
        with served(toys, home, "--store", f"toy:{database}", *policy) as port:
            deploy = (SLLM, "deploy", str(toys), "--home", str(home), "--no-tokenizer")
            toy = ("--engine", "toy", "--context", "64")
            called(toys, *deploy, *toy, "--name", "seven", "--set", "token=7")
            reference = ("--engine", "toy_engine:ENGINE", "--context", "64")
            called(toys, *deploy, *reference, "--name", "one")

            assert completion(port, "seven") == [7, 7, 7, 7]
            assert completion(port, "one") == [1, 1, 1, 1]
            refused = called(toys, *deploy, *toy, "--set", "tokens=7", code=2)
            assert "engine toy: there is no setting 'tokens', known are token" in refused
            refused = called(toys, *deploy, *toy, "--set", "token=x", code=2)
            assert "engine toy: token must be a whole number, got 'x'" in refused
            refused = called(toys, *deploy, *toy, "--set", "token=-1", code=2)
            assert "engine toy: token must not be negative, got -1" in refused
            refused = called(toys, *deploy, "--engine", "toi", code=2)
            assert "unknown engine 'toi', known are transformers, timed, vllm, toy" in refused
        assert database.read_bytes().startswith(b"SQLite format 3")
        assert not (home / "store.db").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--policy", "hydraserve"), "policy hydraserve: its workers do not split loads"),
        (("--policy", "toi"), "unknown policy 'toi', known are serverlessllm, "),
        (("--policy", "toy", "--set", "x=1"), "policy toy: there is no setting 'x', known are max"),
        (("--set", "max_preemptions=1"), "policy serverlessllm: there is no setting 'max_preempt"),
        (("--set", "residency.keep_alive_s=-1"), "keep_alive_s must not be negative, got -1.0"),
        (("--set", "max_candidates"), "expected KEY=VALUE, got 'max_candidates'"),
        (("--store", "toi:x"), "unknown store 'toi', known are sqlite, etcd, memory, toy"),
        (("--store", "toy"), "toy needs a place: toy:FILE"),
        (("--store", "etcd:"), "a store in etcd is etcd:HOST:PORT,HOST:PORT,..., got etcd:"),
        (("--store", "memory"), "a leader that restarts has to find its log"),
    ],
)
def test_a_cluster_with_a_mistake_does_not_start(
    toys_here: Path, options: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    home = toys_here / "h"

    assert main(["serve", "--home", str(home), *options]) == 2
    assert complaint in capsys.readouterr().err
    assert not home.exists()


def test_help_lists_what_can_be_chosen(toys: Path) -> None:
    serve = called(toys, SLLM, "serve", "--help")
    assert "serverlessllm" in serve
    assert "warmserve" in serve
    assert " toy," in serve
    assert "hydraserve" not in serve
    assert "transformers, timed, vllm, toy, or MODULE:NAME" in called(
        toys, SLLM, "deploy", "--help"
    )
