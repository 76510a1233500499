"""Refusals of sizes and contexts that can never work: at the start, or at the deployment."""

import json
from pathlib import Path

import pytest

from sllmcore.errors import UsageError
from sllmreal.cli import main as sllm
from sllmreal.cli.deploy import Choices, described
from sllmreal.control.home import opened_home
from sllmreal.engine.samples import write_sample
from sllmreal.processes import machine_memory, worker

MEMORY_BYTES = int(16e9)


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_memory, "memory_bytes", lambda: MEMORY_BYTES)


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        (["--dram-gb", "500"], "504.0 GB are allocated at the start, this machine has 16.0 GB"),
        (["--dram-gb", "1", "--gpu-memory-gb", "8", "--gpus", "2"], "17.0 GB are allocated"),
        (["--dram-gb", "5", "--workers", "2"], "2 workers, each with --dram-gb 5"),
    ],
)
def test_serve_refuses_sizes_beyond_the_memory_of_the_machine(
    sizes: list[str], wanted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sllm.main(["serve", "--home", str(tmp_path / "h"), "--port", "0", *sizes]) == 2

    assert wanted in capsys.readouterr().err


@pytest.mark.usefixtures("log")
def test_a_worker_refuses_sizes_beyond_the_memory_of_its_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = opened_home(tmp_path / "h")
    arguments = ["--home", str(home.directory), "--server", "s0", "--dram-gb", "500"]

    assert worker.main(arguments) == 2

    assert "504.0 GB are allocated at the start" in capsys.readouterr().err


def test_the_memory_is_that_of_the_machine_or_of_its_cgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine_memory, "_CGROUP_LIMITS", (tmp_path / "none", limit))

    limit.write_text("max\n")
    whole = machine_memory.memory_bytes()
    limit.write_text("1000000\n")

    assert whole > machine_memory.memory_bytes() == 1_000_000


def test_a_context_beyond_the_models_own_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "m"
    write_sample(model, "llama-small", with_tokenizer=True)
    own = json.loads((model / "config.json").read_text())["max_position_embeddings"]

    assert described(model, "m", 0.0, Choices(context_tokens=own)).context_tokens == own
    with pytest.raises(UsageError, match=f"--context {own + 1} is beyond .* of {own} tokens"):
        described(model, "m", 0.0, Choices(context_tokens=own + 1))
