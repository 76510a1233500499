"""`experiments.compare driver=real`: predicted first, then measured, side by side."""

import csv
import json
import re
from datetime import datetime
from pathlib import Path

import pytest

from experiments.comparison.cells import ComparisonCell
from experiments.comparison.curves import Curve, distance
from experiments.comparison.publish import PICTURE, PREDICTION, write_prediction
from experiments.composing import composed_run
from experiments.simulation.run_folder import ENV, SUMMARY
from tests.experiments.real_runs import SMALL_REAL, real_comparison

ROWS = ["serverless", "serverless-predicted", "serverlessllm", "serverlessllm-predicted"]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare") / "out"
    assert real_comparison(folder) == 0
    return folder


def _cell(folder: Path, label: str) -> Path:
    (found,) = (path for path in (folder / "cells").iterdir() if path.name.startswith(f"{label}-s"))
    return found


def test_each_policy_has_a_measured_and_a_predicted_row(comparison: Path) -> None:
    with (comparison / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))

    assert [row["label"] for row in rows] == ROWS
    assert [row["driver"] for row in rows] == ["real", "sim", "real", "sim"]
    assert {row["requests"] for row in rows} == {"20"}


def test_the_prediction_is_written_before_the_measurements(comparison: Path) -> None:
    prediction = json.loads((comparison / PREDICTION).read_text())
    env = json.loads((_cell(comparison, "serverless") / ENV).read_text())

    assert datetime.fromisoformat(prediction["written_at"]) <= datetime.fromisoformat(
        env["started_at"]
    )
    predicted = json.loads((_cell(comparison, "serverless-predicted") / SUMMARY).read_text())
    assert prediction["policies"][0]["label"] == "serverless-predicted"
    assert (
        prediction["policies"][0]["cells"][0]["startup_latency_s"]
        == (predicted["startup_latency_s"])
    )


def test_the_report_has_the_distance_between_prediction_and_measurement(comparison: Path) -> None:
    plain = json.loads((comparison / "comparison.json").read_text())

    assert [pair["policy"] for pair in plain["predictions"]] == ["serverless", "serverlessllm"]
    by_label = {policy["label"]: policy["median"] for policy in plain["policies"]}
    pair = plain["predictions"][0]
    mean_s = [by_label[label]["ttft_s.mean"] for label in ROWS[:2]]
    assert pair["measured_over_predicted"]["ttft_s.mean"] == pytest.approx(mean_s[0] / mean_s[1])
    assert 0 <= pair["startup_cdf_distance"] <= 1


def test_a_picture_and_a_page_of_the_measurements_are_written(comparison: Path) -> None:
    assert (comparison / f"{PICTURE}.png").read_bytes().startswith(b"\x89PNG")
    page = (comparison / "report.html").read_text()
    assert "emulated by sleeping" in page
    assert "Simulated, not measured" not in page
    assert "measured by experiments.real.calibrate" in page


def test_an_existing_measurement_is_not_repeated(
    comparison: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = _cell(comparison, "serverless")
    before = (cell / SUMMARY).stat().st_mtime_ns

    assert real_comparison(comparison) == 0

    assert (cell / SUMMARY).stat().st_mtime_ns == before
    table = capsys.readouterr().out
    for label in ROWS:
        assert re.search(rf"^{label} ", table, re.MULTILINE)
    assert "first token" in table


def test_a_prediction_file_is_kept_until_its_content_changes(
    comparison: Path, tmp_path: Path
) -> None:
    config = composed_run(SMALL_REAL)
    one, other = (
        ComparisonCell(label, config, _cell(comparison, label))
        for label in ("serverless-predicted", "serverlessllm-predicted")
    )
    write_prediction(tmp_path, [one, other])
    file = tmp_path / PREDICTION
    file.write_text(re.sub('"written_at": ".*"', '"written_at": "long ago"', file.read_text()))

    write_prediction(tmp_path, [other])
    assert json.loads(file.read_text())["written_at"] == "long ago"

    write_prediction(tmp_path, [ComparisonCell("another", config, _cell(comparison, "serverless"))])
    assert json.loads(file.read_text())["written_at"] != "long ago"


def test_a_config_that_cannot_be_real_stops_before_any_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert real_comparison(tmp_path / "out", "driver.fault_horizon_s=10") == 2

    assert "faults strike in the simulator only" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_distance_of_two_curves_is_their_largest_gap() -> None:
    fast = Curve("fast", (0.0, 1.0, 2.0), (0.5, 0.75, 1.0), 0.0)
    slow = Curve("slow", (0.0, 3.0), (0.5, 1.0), 0.0)

    assert distance(fast, slow) == 0.5
    assert distance(fast, fast) == 0.0
    assert distance(fast, Curve("never", (), (), 1.0)) == 1.0
