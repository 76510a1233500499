"""The overload benchmark runs, and its counts add up."""

import json
from pathlib import Path

import pytest

from experiments.gateway import main


def test_every_request_offered_is_accounted_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--rounds", "1", "--seconds", "1", "--slots", "2", "--tokens", "3", "--waiting", "2"]
    scenarios = ["--scenarios", "10x", "--token-ms", "50", "--out", str(tmp_path)]

    assert main([*sizes, *scenarios]) == 0

    (row,) = json.loads((tmp_path / "gateway.json").read_text())["rows"]
    assert row["completed"] + row["refused"] + row["other"] == row["offered_per_s"]
    assert row["other"] == 0
    assert row["completed"] > 0
    assert row["refused"] > row["completed"]
    assert "10x" in capsys.readouterr().out
