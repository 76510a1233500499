"""Run the simulations that the paper's figures need and that have no current result.

    python -m experiments.figures                 all figures
    python -m experiments.figures fig8 fig10      some of them

Runs are parallel. An interrupted command resumes when it is called again. Results are written to
`results/figures`; `python -m paper_figures all` draws them.

Exit codes: 0 done, 1 a run failed, 2 unknown name, 130 interrupted.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence

from experiments.reproduction.figures.campaign import finished_runs
from experiments.reproduction.figures.catalogue import grids
from experiments.reproduction.figures.grid import FigureGrid, FigureRun, runs_of
from experiments.reproduction.figures.standalone import STANDALONE
from experiments.reproduction.figures.store import ResultStore


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _arguments(argv)
    known = {grid.name: grid for grid in grids()}
    names = arguments.names or [*known, *STANDALONE]
    unknown = [name for name in names if name not in known and name not in STANDALONE]
    if unknown:
        there_are = ", ".join([*known, *STANDALONE])
        print(f"error: no figure {unknown[0]!r}; there are {there_are}", file=sys.stderr)
        return 2
    store = ResultStore()
    for name in names:
        if name in STANDALONE:
            _print_if_changed(name, store.write(name, STANDALONE[name]()))
    chosen = [known[name] for name in names if name in known and not store.is_current(known[name])]
    try:
        return _run_grids(chosen, store, arguments.workers)
    except KeyboardInterrupt:
        return 130


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.figures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="names of figures (default: all)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: CPUs)"
    )
    return parser.parse_args(argv)


def _run_grids(chosen: Sequence[FigureGrid], store: ResultStore, workers: int) -> int:
    """Run the missing runs of all figures; publish each figure when its runs are done."""
    waiting = {grid.name: (grid, runs_of(grid)) for grid in chosen}
    missing = missing_runs([run for _, runs in waiting.values() for run in runs], store)
    failed = 0
    _publish(waiting, store)
    for number, (run, problem) in enumerate(finished_runs(missing, store, workers), start=1):
        if problem:
            failed += 1
            labels = dict(run.cell.labels)
            print(f"error: {run.grid.name} {labels}: {problem}", file=sys.stderr)
        if number == len(missing) or number % max(1, len(missing) // 20) == 0:
            stamp = time.strftime("%H:%M:%S")
            print(f"{stamp} {number} of {len(missing)} runs", file=sys.stderr, flush=True)
            _publish(waiting, store)
    return 1 if failed else 0


def missing_runs(runs: Sequence[FigureRun], store: ResultStore) -> list[FigureRun]:
    """Return each run once, without runs that another stored or missing run contains."""
    lacking = {run.key: run for run in runs if not store.holds(run)}
    return [run for run in lacking.values() if not any(key in lacking for key in run.keys[1:])]


def _publish(waiting: dict[str, tuple[FigureGrid, list[FigureRun]]], store: ResultStore) -> None:
    """Write the figures with all their runs stored, and remove them from `waiting`."""
    for name, (grid, runs) in list(waiting.items()):
        if all(store.holds(run) for run in runs):
            del waiting[name]
            _print_if_changed(name, store.publish(grid, runs))


def _print_if_changed(name: str, changed: bool) -> None:
    if changed:
        print(f"results/figures/{name}.json")


if __name__ == "__main__":
    sys.exit(main())
