"""`python -m experiments.compare`: several policies on the same requests. `--help` says more."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.command import Job
    from experiments.comparison.cells import Cell, Outcome
    from experiments.config.compare_config import CompareConfig

# Imports are inside: the processes of the pool import this file too, and need none of it.


def main() -> int:
    """The command; returns its exit code."""
    from experiments.command import run_command

    return run_command("compare", _compare)


def _compare(job: "Job") -> int:
    from experiments.command import FAILED, OK, USAGE
    from experiments.comparison.publish import publish
    from experiments.config.compare_config import compare_config

    config = compare_config(job.plain)
    cells = _cells(config, job)
    failed = [outcome for outcome in _run(cells, config.workers) if outcome.problem is not None]
    for outcome in failed:
        cell = outcome.cell
        print(f"error: {cell.label}, seed {cell.config.seed}: {outcome.problem}", file=sys.stderr)
    if failed:
        return USAGE if all(outcome.usage for outcome in failed) else FAILED
    publish(job.folder, cells, sys.stdout, as_json=config.json)
    print(job.folder)
    return OK


def _cells(config: "CompareConfig", job: "Job") -> "list[Cell]":
    """Policies times seeds; whatever is wrong with one of them is told before any is run."""
    from experiments.comparison.cells import cell_in
    from experiments.composing import composed_run

    cells = []
    for policy in config.policies:
        run = composed_run([*job.overrides, f"policy={policy}"])
        seeds = config.seeds or (run.seed,)
        cells += [cell_in(job.folder, policy, replace(run, seed=seed)) for seed in seeds]
    return cells


def _run(cells: "Sequence[Cell]", workers: int | None) -> "list[Outcome]":
    """With a progress bar if somebody is watching."""
    from experiments.comparison.cells import run_cells

    if not sys.stderr.isatty():
        return run_cells(cells, workers, lambda _: None)
    from rich.console import Console
    from rich.progress import Progress

    done = sum(cell.done for cell in cells)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("simulating", total=len(cells), completed=done)
        return run_cells(cells, workers, lambda _: progress.advance(task))


if __name__ == "__main__":
    sys.exit(main())
