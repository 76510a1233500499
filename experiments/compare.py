"""`python -m experiments.compare`: several policies on the same requests. `--help` says more.

With driver=real the simulator predicts each run first; then they are measured, one by one.
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

# Imports are inside: the processes of the pool import this file too, and need none of it.


def main() -> int:
    """The command; returns its exit code."""
    from experiments.command import run_command

    return run_command("compare", _compare)


def _compare(job: "Invocation") -> int:
    from experiments.command import FAILED, OK, USAGE
    from experiments.comparison.publish import publish
    from experiments.config.compare_config import compare_config

    config = compare_config(job.plain)
    cells = _cells(config, job)
    simulated = [cell for cell in cells if not cell.real]
    outcomes = _run(simulated, config.workers)
    if not any(outcome.problem for outcome in outcomes):
        outcomes += _measured(cells, job)
    failed = [outcome for outcome in outcomes if outcome.problem is not None]
    for outcome in failed:
        cell = outcome.cell
        print(f"error: {cell.label}, seed {cell.config.seed}: {outcome.problem}", file=sys.stderr)
    if failed:
        return USAGE if all(outcome.usage for outcome in failed) else FAILED
    publish(job.folder, cells, sys.stdout, as_json=config.json)
    print(job.folder)
    return OK


def _cells(config: "CompareConfig", job: "Invocation") -> "list[ComparisonCell]":
    """Policies times seeds; whatever is wrong with one of them is told before any is run."""
    from experiments.composing import composed_run

    cells: list[ComparisonCell] = []
    for policy in config.policies:
        run = composed_run([*job.overrides, f"policy={policy}"])
        for seed in config.seeds or (run.seed,):
            cells += _of_run(policy, replace(run, seed=seed), job)
    return cells


def _of_run(policy: str, run: "RunConfig", job: "Invocation") -> "list[ComparisonCell]":
    """A run; and what predicts it, if it is a real one."""
    from experiments.comparison.cells import cell_in
    from experiments.comparison.pairs import predicted_label

    cell = cell_in(job.folder, policy, run)
    if not cell.real:
        return [cell]
    from experiments.real.possible import real_settings

    real_settings(run)  # refuses what cannot be done
    prediction = replace(run, driver=replace(run.driver, kind="sim"))
    return [cell, cell_in(job.folder, predicted_label(policy), prediction)]


def _measured(cells: "Sequence[ComparisonCell]", job: "Invocation") -> "list[CellOutcome]":
    """Run the real cells that are not done, alone on the machine, after writing down the others'
    figures as what is expected."""
    waiting = [cell for cell in cells if cell.real and not cell.done]
    if not waiting:
        return []
    from experiments.comparison.publish import write_prediction

    write_prediction(job.folder, [cell for cell in cells if not cell.real])
    return _run(waiting, workers=1)


def _run(cells: "Sequence[ComparisonCell]", workers: int | None) -> "list[CellOutcome]":
    """With a progress bar if somebody is watching."""
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
