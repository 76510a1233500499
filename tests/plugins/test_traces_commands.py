"""A trace format from outside, on the command line of traces."""

import json
from pathlib import Path

import pytest

from tests.plugins.toys import called
from traces import cli

ROWS = "toy trace\n0.0 a 10 20\n1.5 b 30 40\n3.0 a 50 60\n"


@pytest.mark.parametrize("format_options", [(), ("--format", "toy_trace:FORMAT")])
def test_a_trace_of_an_installed_format_is_described(
    toys: Path, format_options: tuple[str, ...]
) -> None:
    (toys / "trace.txt").write_text(ROWS)

    shown = called(toys, "traces", "describe", "trace.txt", "--json", *format_options)

    numbers = json.loads(shown)
    assert (numbers["num_rows"], numbers["span_s"]) == (3, 3.0)


def test_a_workload_reads_an_installed_format(toys_here: Path) -> None:
    (toys_here / "trace.txt").write_text(ROWS)
    out = toys_here / "out.jsonl"

    fields = ("kind=toy", f"path={toys_here / 'trace.txt'}", "mapping=stripe")
    assert cli.main(["export", str(out), "--set", *fields, "--models", "2"]) == 0
    assert [json.loads(line)["input_length"] for line in out.read_text().splitlines()] == [
        10,
        30,
        50,
    ]


def test_an_unknown_format_is_refused_with_the_known_ones(
    toys_here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (toys_here / "trace.txt").write_text(ROWS)
    path = str(toys_here / "trace.txt")

    assert cli.main(["describe", path, "--format", "toi"]) == 2
    assert "unknown trace format 'toi', known are azure_llm, " in capsys.readouterr().err
    assert cli.main(["export", str(toys_here / "o"), "--set", "kind=toi", f"path={path}"]) == 2
    assert "unknown kind 'toi', known are azure_like, " in capsys.readouterr().err
