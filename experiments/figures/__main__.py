"""`python -m experiments.figures [NAMES]`: run what the figures lack, in parallel, resumable.

Results go to `results/figures`; `python -m paper_figures all` draws them. Exit codes: 0 done, 1 a
run failed, 2 a figure of an unknown name, 130 interrupted.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence

from experiments.figures.campaign import carried_out
from experiments.figures.catalogue import grids
from experiments.figures.grid import Grid, runs_of
from experiments.figures.scenes import SCENES
from experiments.figures.store import Store


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = _arguments(argv)
    known = {grid.name: grid for grid in grids()}
    names = arguments.names or [*known, *SCENES]
    unknown = [name for name in names if name not in known and name not in SCENES]
    if unknown:
        print(f"no figure {unknown[0]!r}; there are {', '.join([*known, *SCENES])}")
        return 2
    store = Store()
    for name in names:
        if name in SCENES:
            _say_published(name, store.write(name, SCENES[name]()))
    chosen = [known[name] for name in names if name in known and not store.stands(known[name])]
    try:
        return _run_grids(chosen, store, arguments.workers)
    except KeyboardInterrupt:
        return 130


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.figures", description=__doc__)
    parser.add_argument("names", nargs="*", help="figures; all if none is named")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    return parser.parse_args(argv)


def _run_grids(chosen: Sequence[Grid], store: Store, workers: int) -> int:
    """One figure after the other, each published when its runs are done."""
    failed = 0
    for grid in chosen:
        runs = runs_of(grid)
        missing = list({run.key: run for run in runs if run.key not in store}.values())
        for number, (run, problem) in enumerate(carried_out(missing, store, workers)):
            if problem:
                failed += 1
                print(f"error: {grid.name} {dict(run.cell.labels)}: {problem}", file=sys.stderr)
            _say_progress(grid.name, number + 1, len(missing))
        if all(run.key in store for run in runs):
            _say_published(grid.name, store.publish(grid, runs))
    return 1 if failed else 0


def _say_progress(name: str, done: int, total: int) -> None:
    if done == total or done % max(1, total // 4) == 0:
        print(
            f"{time.strftime('%H:%M:%S')} {name}: {done} of {total} runs",
            file=sys.stderr,
            flush=True,
        )


def _say_published(name: str, changed: bool) -> None:
    if changed:
        print(f"results/figures/{name}.json")


if __name__ == "__main__":
    sys.exit(main())
