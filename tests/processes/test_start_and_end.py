"""The command `sllm`: start, end, and errors of one line.

Seeded bug: a second Ctrl-C waits for the open requests as the first does.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sllmcore.errors import UsageError
from sllmreal.cli import main as sllm
from sllmreal.cli.main import main
from sllmreal.processes.extras import missing_extra

PATIENCE_S = 60.0


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0

    assert capsys.readouterr().out == "sllm 0.1.0\n"


def test_the_help_of_serve_names_the_policies(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])

    text = " ".join(capsys.readouterr().out.split())
    assert "serverlessllm, shepherd" in text


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["status"], "msgspec is not installed: pip install '.[serve]'"),
        (["deploy", "m"], "numpy is not installed: pip install '.[real]'"),
        (["models"], "msgspec is not installed: pip install '.[serve]'"),
        (["serve"], "msgspec is not installed: pip install '.[serve]'"),
    ],
)
def test_without_an_extra_a_command_names_it_in_one_line(
    arguments: list[str], missing: str, tmp_path: Path
) -> None:
    """The standard library alone, as after `pip install .`."""
    program = (
        f"import sys; sys.path.insert(0, {str(Path.cwd())!r}); "
        f"from sllmreal.cli.main import main; sys.exit(main({arguments!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        check=False,
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path)},
        timeout=PATIENCE_S,
    )

    assert done.stderr == f"sllm: {missing}\n"
    assert done.returncode == 2


def test_a_missing_module_of_no_extra_is_an_error_of_the_code() -> None:
    assert isinstance(missing_extra(ModuleNotFoundError("", name="torch.nn")), UsageError)
    with pytest.raises(ModuleNotFoundError):
        missing_extra(ModuleNotFoundError("", name="sllmreal.nothing"))


def wait_for(text: str, log: Path) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while text not in log.read_text():
        assert time.monotonic() < until_s, log.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize("num_signals", [1, 2])
def test_ctrl_c_prints_the_wait_and_a_second_one_ends_at_once(
    num_signals: int, tmp_path: Path
) -> None:
    home, file = tmp_path / "h", tmp_path / "log"
    arguments = ["serve", "--home", str(home), "--port", "0", "--paced"]
    with (
        file.open("wb") as log,
        subprocess.Popen([sys.executable, "-m", sllm.__package__, *arguments], stderr=log) as serve,
    ):
        try:
            wait_for("serving on http://", file)
            if num_signals == 2:  # a leader that does not end keeps the first one waiting
                (leader,) = pids_of("sllmreal.processes.leader", home)
                os.kill(leader, signal.SIGSTOP)
            serve.send_signal(signal.SIGINT)
            wait_for("stopping: waiting up to 30 s for open requests", file)
            if num_signals == 2:
                serve.send_signal(signal.SIGINT)
            code = serve.wait(PATIENCE_S if num_signals == 1 else 5.0)
        finally:
            serve.kill()
            for pid in pids_of("sllmreal.processes", home):
                os.kill(pid, signal.SIGKILL)

    assert code == (0 if num_signals == 1 else 130)
    order = ("starting: requests to", "serving on", "stopping:")
    found = [file.read_text().index(text) for text in order]
    assert found == sorted(found)


def pids_of(module: str, home: Path) -> list[int]:
    """Return the processes of a home that run a module."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if str(home) in command and any(one.startswith(module) for one in command):
                found.append(int(entry.name))
    return found
