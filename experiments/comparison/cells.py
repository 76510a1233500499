"""The cells of a comparison: runs in parallel processes, each with a folder named by its content.

Folders are created atomically. A cell with an existing folder is not run again, so an interrupted
comparison resumes.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.comparison.identity import digest
from experiments.config.run_config import RunConfig
from experiments.execution import execute
from experiments.pool import run_pool
from experiments.simulation.environment import command_line
from experiments.simulation.run_folder import SUMMARY
from sllmcore.errors import SllmError, UsageError


@dataclass(frozen=True, slots=True)
class ComparisonCell:
    """A run of a comparison.

    Args:
        label: Label of its row: the option of the group `policy`.
        config: Config of the run.
        folder: Folder of its files, which may not exist yet.
    """

    label: str
    config: RunConfig
    folder: Path

    @property
    def real(self) -> bool:
        """True for a run on a real cluster, False for a simulation."""
        return self.config.driver.kind == "real"

    @property
    def done(self) -> bool:
        """True if the cell has been run."""
        return (self.folder / SUMMARY).is_file()

    def summary(self) -> dict[str, Any]:
        """Return the content of summary.json of a cell that is done."""
        plain: dict[str, Any] = json.loads((self.folder / SUMMARY).read_text())
        return plain


@dataclass(frozen=True, slots=True)
class CellOutcome:
    """The outcome of running a cell.

    Args:
        problem: The error; None if the run succeeded.
        usage: True if the error is a mistake of the caller.
    """

    cell: ComparisonCell
    problem: str | None = None
    usage: bool = False


def cell_in(folder: Path, label: str, config: RunConfig) -> ComparisonCell:
    """Return a cell of the comparison in `folder`.

    Raises:
        UsageError: `folder` is a file.
    """
    if folder.is_file():
        raise UsageError(f"out: {folder} is a file; give the name of a folder")
    name = f"{label}-seed{config.seed}-{digest(config)}"
    return ComparisonCell(label, config, folder / "cells" / name)


def run_cells(
    cells: Sequence[ComparisonCell], workers: int | None, on_done: Callable[[CellOutcome], None]
) -> list[CellOutcome]:
    """Run the cells that are not done, and return their outcomes.

    Args:
        workers: Number of processes; None: one per CPU.
        on_done: Called in this process with each outcome.
    """
    waiting = [cell for cell in cells if not cell.done]
    num_workers = min(len(waiting), workers or (os.cpu_count() or 1))
    outcomes = _in_turn(waiting) if num_workers <= 1 else _in_parallel(waiting, num_workers)
    ended: list[CellOutcome] = []
    for outcome in outcomes:
        ended.append(outcome)
        on_done(outcome)
    return ended


def _in_turn(cells: Sequence[ComparisonCell]) -> Iterator[CellOutcome]:
    for cell in cells:
        yield _run_cell(cell, command_line())


def _in_parallel(cells: Sequence[ComparisonCell], num_workers: int) -> Iterator[CellOutcome]:
    with run_pool(num_workers) as pool:
        futures = {
            pool.submit(_run_cell_interruptibly, cell, command_line()): cell for cell in cells
        }
        try:
            for future in as_completed(futures):
                try:
                    yield future.result()
                except BrokenProcessPool:
                    yield CellOutcome(
                        futures[future],
                        "its process died, perhaps for lack of memory; try fewer workers",
                    )
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run_cell_interruptibly(cell: ComparisonCell, command: Sequence[str]) -> CellOutcome:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _run_cell(cell, command)
    finally:  # an idle process ignores interrupts: it has nothing to clean up
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_cell(cell: ComparisonCell, command: Sequence[str]) -> CellOutcome:
    try:
        execute(cell.folder, cell.config, command)
    except UsageError as error:
        return CellOutcome(cell, str(error), usage=True)
    except (SllmError, OSError) as error:
        return CellOutcome(cell, f"{type(error).__name__}: {error}")
    return CellOutcome(cell)
