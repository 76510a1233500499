"""`python -m experiments.compare`: several policies on the same requests; see `--help`.

With driver=real the simulator predicts all runs first; then they are measured one by one.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.command import Invocation
    from experiments.comparison.cells import CellOutcome, ComparisonCell
    from experiments.config.compare_config import CompareConfig
    from experiments.config.run_config import RunConfig

# Imports are inside functions, because each process of the pool imports this file.


def main() -> int:
    """Run the command and return its exit code."""
    from experiments.command import run_command

    return run_command("compare", _compare)


def _compare(invocation: "Invocation") -> int:
    from experiments.command import FAILED, OK, USAGE
    from experiments.comparison.publish import publish
    from experiments.config.compare_config import compare_config
    from experiments.simulation.trace_file import print_reports

    config = compare_config(invocation.plain)
    cells = _cells(config, invocation)
    simulated = [cell for cell in cells if not cell.real]
    outcomes = _run(simulated, config.workers)
    if not any(outcome.problem for outcome in outcomes):
        outcomes += _measured(cells, invocation)
    failed = [outcome for outcome in outcomes if outcome.problem is not None]
    for outcome in failed:
        cell = outcome.cell
        print(f"error: {cell.label}, seed {cell.config.seed}: {outcome.problem}", file=sys.stderr)
    if failed:
        return USAGE if all(outcome.usage for outcome in failed) else FAILED
    print_reports(cell.folder for cell in cells[:1])
    publish(invocation.folder, cells, sys.stdout, as_json=config.json)
    print(invocation.folder)
    return OK


def _cells(config: "CompareConfig", invocation: "Invocation") -> "list[ComparisonCell]":
    """Return policies times seeds.

    Raises:
        UsageError: The config of a cell is wrong; so no cell has been run yet.
    """
    from experiments.composing import composed_run

    cells: list[ComparisonCell] = []
    for policy in config.policies:
        run = composed_run([*invocation.overrides, f"policy={policy}"])
        _refuse_pipes(run.workload.paths)
        for seed in config.seeds or (run.seed,):
            cells += _cells_of_run(policy, replace(run, seed=seed), invocation)
    return cells


def _refuse_pipes(paths: "Sequence[str]") -> None:
    """Refuse a trace that can be read only once.

    Raises:
        UsageError: A path is that of a pipe.
    """
    from sllmcore.errors import UsageError
    from traces.pipe import is_pipe

    for path in paths:
        if is_pipe(path):
            raise UsageError(
                f"workload.path: each run of a comparison reads the trace again, which {path} does "
                "not allow: write it to a file first"
            )


def _cells_of_run(
    policy: str, run: "RunConfig", invocation: "Invocation"
) -> "list[ComparisonCell]":
    """Return the cell of a run; for a real run, also the cell that predicts it."""
    from experiments.comparison.cells import cell_in
    from experiments.comparison.pairs import predicted_label

    cell = cell_in(invocation.folder, policy, run)
    if not cell.real:
        return [cell]
    from experiments.real.possible import real_settings

    real_settings(run)  # checks that a real cluster can do it
    prediction = replace(run, driver=replace(run.driver, kind="sim"))
    return [cell, cell_in(invocation.folder, predicted_label(policy), prediction)]


def _measured(cells: "Sequence[ComparisonCell]", invocation: "Invocation") -> "list[CellOutcome]":
    """Write the predictions, then run the real cells that are not done, one at a time."""
    waiting = [cell for cell in cells if cell.real and not cell.done]
    if not waiting:
        return []
    from experiments.comparison.publish import write_prediction

    write_prediction(invocation.folder, [cell for cell in cells if not cell.real])
    return _run(waiting, workers=1)


def _run(cells: "Sequence[ComparisonCell]", workers: int | None) -> "list[CellOutcome]":
    """Run cells, with a progress bar if stderr is a terminal."""
    from experiments.comparison.cells import run_cells

    if not sys.stderr.isatty():
        return run_cells(cells, workers, lambda _: None)
    from rich.console import Console
    from rich.progress import Progress

    done = sum(cell.done for cell in cells)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("running", total=len(cells), completed=done)
        return run_cells(cells, workers, lambda _: progress.advance(task))


if __name__ == "__main__":
    sys.exit(main())
