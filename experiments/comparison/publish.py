"""The output of a comparison: its files beside the cells, and the printed table."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from experiments.comparison.cdf_picture import draw_cdf
from experiments.comparison.cells import ComparisonCell
from experiments.comparison.curves import Curve, startup_curve
from experiments.comparison.pairs import pairs_of, plain_pair
from experiments.comparison.pairs_picture import PanelRow, draw_pairs
from experiments.comparison.report import report_html
from experiments.comparison.results import (
    PolicyResult,
    csv_text,
    plain_results,
    policy_results,
)
from experiments.comparison.table import print_table
from experiments.simulation.execute import json_text

PICTURE = "startup_latency_cdf"
PREDICTION = "prediction.json"


def write_prediction(folder: Path, cells: Sequence[ComparisonCell]) -> None:
    """Write prediction.json: the simulated results, and the time of writing.

    It is written before the real runs. A file of an interrupted comparison that has these cells
    already is kept.
    """
    file = folder / PREDICTION
    if file.is_file() and {f"cells/{cell.folder.name}" for cell in cells} <= _predicted(file):
        return
    written_at = datetime.now(UTC).isoformat(timespec="seconds")
    plain = plain_results(cells[0].config.name, policy_results(cells))
    file.write_text(json_text({"written_at": written_at, **plain}))


def _predicted(file: Path) -> set[str]:
    """Return the folders of the cells in a prediction."""
    policies = json.loads(file.read_text())["policies"]
    return {cell["folder"] for policy in policies for cell in policy["cells"]}


def publish(
    folder: Path, cells: Sequence[ComparisonCell], stream: IO[str], *, as_json: bool
) -> None:
    """Write the files of a comparison, and print the table.

    The files are comparison.json, comparison.csv, the CDFs as PNG and PDF, and report.html.

    Args:
        as_json: Print JSON in place of the table.

    Raises:
        ControlError: The policies did not meet the same requests.
    """
    results = policy_results(cells)
    config = cells[0].config
    pairs = [plain_pair(pair) for pair in pairs_of(results)]
    plain = plain_results(config.name, results)
    text = json_text(plain | {"predictions": pairs} if pairs else plain)
    curves = [startup_curve(result) for result in results]
    (folder / "comparison.json").write_text(text)
    (folder / "comparison.csv").write_text(csv_text(results))
    pictures = _pictures(results, curves, folder)
    (folder / "report.html").write_text(report_html(folder, results, curves, pictures[0]))
    if as_json:
        stream.write(text)
    else:
        print_table(_title(cells), results, stream)


def _pictures(results: Sequence[PolicyResult], curves: Sequence[Curve], folder: Path) -> list[Path]:
    """Draw all curves in one panel, or a panel per policy if there are predictions."""
    pairs = pairs_of(results)
    if not pairs:
        return draw_cdf(curves, folder, PICTURE)
    rows = [
        PanelRow(
            wait,
            tuple(startup_curve(pair.measured, until) for pair in pairs),
            tuple(startup_curve(pair.predicted, until) for pair in pairs),
        )
        for wait, until in (("startup", "started_at_s"), ("first token", "first_token_at_s"))
    ]
    return draw_pairs(rows, folder, PICTURE)


def _title(cells: Sequence[ComparisonCell]) -> str:
    config = cells[0].config
    seeds = sorted({cell.config.seed for cell in cells})
    medians = f"medians over {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
    return f"{config.name}: startup latency and more by policy, {medians}"
