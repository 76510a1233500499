"""Command lines of campaigns: help, and the progress line."""

import importlib
import io
import re

import pytest

from experiments.benchmarks.terminal import ProgressLine

CAMPAIGNS = (
    "cluster.kills",
    "cluster.soak",
    "engine.identity",
    "migration.campaign",
    "migration.fuzz",
    "migration.kills",
    "store.failover",
    "store.kills",
)


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_help_names_checks_duration_exit_status_and_defaults(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"experiments.campaigns.{name}")

    with pytest.raises(SystemExit) as exited:
        module.main(["--help"])

    shown = capsys.readouterr().out
    assert exited.value.code == 0
    assert shown.startswith(f"usage: python -m experiments.campaigns.{name} ")
    for word in ("Checks|check", "Duration: ", "Exit status: 1", r"\(default: "):
        assert re.search(word, shown), word


def test_progress_is_shown_on_a_terminal_and_removed_at_the_end() -> None:
    stream = Terminal()

    with ProgressLine("kills", 5, stream) as progress:
        progress.show(1, "9 answered")
        progress.show(2, "10 answered")  # within 0.2 s of the first: not shown

    assert stream.getvalue() == "\r\x1b[K1/5 kills, 9 answered\r\x1b[K"


def test_progress_is_not_shown_in_a_pipe() -> None:
    stream = io.StringIO()

    with ProgressLine("kills", 5, stream) as progress:
        progress.show(1)

    assert stream.getvalue() == ""
