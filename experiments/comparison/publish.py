"""Writes what a comparison came to beside its cells, and prints it."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from experiments.comparison.cdf_picture import draw_cdf
from experiments.comparison.cells import Cell
from experiments.comparison.curves import startup_curve
from experiments.comparison.report import report_html
from experiments.comparison.results import csv_text, plain_results, policy_results
from experiments.comparison.table import print_table
from experiments.simulation.execute import json_text

PICTURE = "startup_latency_cdf"


def publish(folder: Path, cells: Sequence[Cell], stream: IO[str], *, as_json: bool) -> None:
    """comparison.json, comparison.csv, the CDF as PNG and PDF, report.html; and the table."""
    results = policy_results(cells)
    config = cells[0].config
    text = json_text(plain_results(config.name, results))
    curves = [startup_curve(result) for result in results]
    (folder / "comparison.json").write_text(text)
    (folder / "comparison.csv").write_text(csv_text(results))
    pictures = draw_cdf(curves, folder, PICTURE)
    (folder / "report.html").write_text(report_html(folder, results, curves, pictures[0]))
    if as_json:
        stream.write(text)
    else:
        print_table(_title(cells), results, stream)


def _title(cells: Sequence[Cell]) -> str:
    config = cells[0].config
    seeds = sorted({cell.config.seed for cell in cells})
    medians = f"medians over {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
    return f"{config.name}: startup latency and more by policy, {medians}"
