"""`experiments.compare`: equal requests for all policies, resuming, and the report."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from experiments import compare
from experiments.comparison import cells as cells_module
from experiments.comparison.cdf_picture import draw_cdf
from experiments.comparison.cells import CellOutcome, ComparisonCell, cell_in, run_cells
from experiments.comparison.curves import Curve, startup_curve
from experiments.comparison.identity import digest
from experiments.comparison.publish import PICTURE
from experiments.comparison.results import policy_results
from experiments.composing import composed_run
from experiments.config.run_config import RunConfig
from experiments.simulation import execute
from experiments.simulation.run_folder import ENV, REQUESTS, SUMMARY
from tests.experiments.commands import SMALL, called, small_comparison


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a comparison of two policies and two seeds; some requests time out."""
    folder = tmp_path_factory.mktemp("compare") / "out"
    overrides = ("seeds=[0,1]", "policy.controller.startup_timeout_s=4", "name='a <b> & c'")
    assert small_comparison(folder, *overrides) == 0
    return folder


def _cells(folder: Path) -> list[Path]:
    return sorted((folder / "cells").iterdir())


def test_every_policy_has_the_same_requests(comparison: Path) -> None:
    columns = ["request_id", "model", "arrived_at_s", "input_tokens"]
    tables = {
        path.name: pq.read_table(path / REQUESTS, columns=columns) for path in _cells(comparison)
    }

    assert len(tables) == 4
    by_seed = {
        seed: [table for name, table in tables.items() if f"-seed{seed}-" in name]
        for seed in (0, 1)
    }
    assert by_seed[0][0].equals(by_seed[0][1])
    assert by_seed[1][0].equals(by_seed[1][1])
    assert not by_seed[0][0].equals(by_seed[1][0])


def test_csv_and_json_have_the_results_of_all_cells(comparison: Path) -> None:
    plain = json.loads((comparison / "comparison.json").read_text())
    with (comparison / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))

    assert [policy["label"] for policy in plain["policies"]] == ["serverless", "serverlessllm"]
    assert [policy["seeds"] for policy in plain["policies"]] == [[0, 1], [0, 1]]
    assert len(rows) == 4
    p99_s = [float(row["startup_latency_s.p99"]) for row in rows if row["label"] == "serverless"]
    median_s = plain["policies"][0]["median"]["startup_latency_s.p99"]
    assert median_s == pytest.approx(sum(p99_s) / 2)
    for path in plain["policies"][0]["cells"]:
        assert (comparison / path["folder"] / SUMMARY).is_file()


def test_the_picture_is_drawn(comparison: Path) -> None:
    png = (comparison / f"{PICTURE}.png").read_bytes()
    pdf = (comparison / f"{PICTURE}.pdf").read_bytes()

    assert png.startswith(b"\x89PNG")
    assert pdf.startswith(b"%PDF")
    assert min(len(png), len(pdf)) > 5000


def test_requests_that_never_start_lower_the_end_of_the_curve(comparison: Path) -> None:
    cells = [ComparisonCell("all", composed_run(SMALL), path) for path in _cells(comparison)[:1]]
    curve = startup_curve(policy_results(cells)[0])

    summary = cells[0].summary()
    assert summary["timed_out"] > 0
    assert curve.never_started == pytest.approx(summary["timed_out"] / summary["requests"])
    assert curve.shares[-1] == pytest.approx(1 - curve.never_started)
    assert max(curve.latency_s) <= 4


class _Page(HTMLParser):
    """A parser that collects the links of a page and checks that its tags match."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Ignore shapes in an SVG, which are closed at once."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_needs_no_network_and_its_links_are_valid(comparison: Path) -> None:
    text = (comparison / "report.html").read_text()
    page = _Page()
    page.feed(text)

    assert page.open == []
    assert not re.search(r"https?://|//cdn|@import|url\(", text)
    assert "a &lt;b&gt; &amp; c" in text
    links = [link for link in page.fetched if not link.startswith("data:image/png;base64,")]
    assert len(links) == 4 * 6
    for link in links:
        assert (comparison / link).is_file()


def test_a_cell_that_is_done_is_not_run_again(comparison: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(comparison, tmp_path / "out")
    cells = [cell_in(folder, "serverless", composed_run([*SMALL, f"seed={i}"])) for i in (0, 5)]
    assert [outcome.problem for outcome in run_cells(cells[1:], 1, lambda _: None)] == [None]
    before = (cells[1].folder / ENV).read_bytes()
    cells.append(cell_in(folder, "serverless", composed_run([*SMALL, "seed=6"])))

    ran = [outcome.cell.config.seed for outcome in run_cells(cells, 1, lambda _: None)]

    assert ran == [0, 6]  # the comparison's own seed 0 has another time-out
    assert (cells[1].folder / ENV).read_bytes() == before


def test_an_interrupted_comparison_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_cell = cells_module._run_cell

    def interrupted(cell: ComparisonCell, command: Sequence[str]) -> CellOutcome:
        if cell.label == "serverlessllm":
            raise KeyboardInterrupt
        return run_cell(cell, command)

    monkeypatch.setattr(cells_module, "_run_cell", interrupted)
    assert small_comparison(tmp_path / "out") == 130
    assert capsys.readouterr().err == "error: interrupted\n"
    (first,) = _cells(tmp_path / "out")
    before = (first / ENV).read_bytes()
    monkeypatch.undo()

    assert small_comparison(tmp_path / "out") == 0
    assert len(_cells(tmp_path / "out")) == 2
    assert (first / ENV).read_bytes() == before


def test_the_name_of_a_cell_depends_on_all_inputs_of_its_results(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,10,20\n")
    reads = ["experiment=azure_llm", f"workload.path={trace}"]
    digests = [
        digest(composed_run([*SMALL, *more])) for more in ([], ["seed=1"], ["policy=locality"])
    ]
    digests.append(digest(composed_run(reads)))
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,10,21\n")
    digests.append(digest(composed_run(reads)))

    assert len(set(digests)) == 5
    assert digest(composed_run([*SMALL, "name=other"])) == digests[0]


def test_parallel_and_sequential_runs_give_the_same_results(tmp_path: Path) -> None:
    config = composed_run(SMALL)
    digests = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        cells = [cell_in(folder, label, config) for label in ("a", "b")]
        outcomes = run_cells(cells, workers, lambda _: None)
        assert [outcome.problem for outcome in outcomes] == [None, None]
        digests.append([(cell.folder / REQUESTS).read_bytes() for cell in cells])

    assert digests[0] == digests[1]


def test_a_cell_that_fails_is_named_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_into = execute.run_into

    def fails_once(folder: Path, config: RunConfig, command: Sequence[str]) -> dict[str, Any]:
        if config.policy.name == "serverless":
            raise OSError("no space left on device")
        return run_into(folder, config, command)

    monkeypatch.setattr(execute, "run_into", fails_once)

    assert small_comparison(tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert captured.err == "error: serverless, seed 0: OSError: no space left on device\n"
    assert captured.out == ""
    assert [path.name.split("-")[0] for path in _cells(tmp_path / "out")] == ["serverlessllm"]


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("policies=[serverless,best]", "'policy/best'"),
        ("policies=[]", "at least one policy"),
        ("policies=[serverless,serverless]", "policies must differ"),
        ("seeds=[0,0]", "seeds must differ"),
        ("seeds=[-1]", "seed must be 0 or more"),
        ("workers=0", "workers must be at least 1"),
    ],
)
def test_a_mistake_is_reported_before_any_run(
    override: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(compare.main, *SMALL, override, f"out={tmp_path / 'out'}") == 2
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_json_in_place_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert small_comparison(tmp_path / "out", "json=true") == 0

    *lines, folder = capsys.readouterr().out.splitlines()
    assert folder == str(tmp_path / "out")
    assert json.loads("\n".join(lines))["policies"][1]["label"] == "serverlessllm"


def test_in_a_pipe_only_the_table_and_the_folder_are_printed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments.compare", *SMALL, "workers=2"]
    done = subprocess.run(
        [*command, "policies=[serverless,locality]", "out=out"],
        check=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    lines = done.stdout.splitlines()
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert lines[0].startswith("run: ")
    assert [line.split()[0] for line in lines if line.startswith(("serverless", "locality"))] == [
        "serverless",
        "locality",
    ]
    assert lines[-1] == "out"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_curve_of_requests_that_all_failed_can_be_drawn(tmp_path: Path) -> None:
    curves = [Curve("none", (), (), 1.0), Curve("warm", (0.0,), (1.0,), 0.0)]

    assert all(path.is_file() for path in draw_cdf(curves, tmp_path, "picture"))
