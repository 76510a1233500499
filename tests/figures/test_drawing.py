"""Every figure is drawn from results of invented numbers."""

import csv
from pathlib import Path

import pytest

from paper_figures.__main__ import main
from paper_figures.catalogue import PICTURES
from paper_figures.comparison import compared_numbers
from paper_figures.published import published_cells
from tests.figures.synthetic import write_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures") / "results"
    write_results(folder)
    return folder


@pytest.fixture(scope="module")
def out(results: Path) -> Path:
    folder = results.parent / "out"
    assert main(["all", "--results", str(results), "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("stem", [picture.stem for picture in PICTURES])
def test_every_figure_has_a_picture_in_both_formats_and_a_page(out: Path, stem: str) -> None:
    page = (out / f"{stem}.md").read_text()

    assert (out / f"{stem}.pdf").read_bytes().startswith(b"%PDF")
    assert (out / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
    assert "python -m experiments.figures" in page
    assert "seeds" in page and "commit" in page and "minutes" in page


def test_every_published_number_stands_beside_ours(out: Path) -> None:
    rows = list(csv.DictReader((out / "comparison.csv").read_text().splitlines()))

    assert len(rows) == len(list(published_cells()))
    assert all(row["verdict"] in ("agrees", "differs", "undecided") for row in rows)
    assert all(row["reach"] and row["grade"] in "QMDX" for row in rows)


def test_a_second_call_draws_nothing(
    results: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}

    assert main(["all", "--results", str(results), "--out", str(out)]) == 0

    assert capsys.readouterr().out == ""
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_figure_without_results_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]

    assert main(["fig10", *folders]) == 1
    assert "python -m experiments.figures fig10" in capsys.readouterr().err


def test_a_ratio_is_taken_seed_by_seed(results: Path) -> None:
    ratio = next(row for row in compared_numbers(results) if row.published.under is not None)

    assert ratio.ours.low <= ratio.ours.value <= ratio.ours.high
    assert len(ratio.values) == 2
