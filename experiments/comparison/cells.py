"""Runs many configs in parallel processes, each into a folder that its content names.

A cell whose folder is there already is not run again, so whatever was interrupted resumes where it
stood: folders appear whole or not at all.
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
    """One run of a comparison.

    Args:
        label: Of its row: the option of the group `policy`.
        folder: Where its files are, or will be.
    """

    label: str
    config: RunConfig
    folder: Path

    @property
    def real(self) -> bool:
        """Measured on a real cluster, not simulated."""
        return self.config.driver.kind == "real"

    @property
    def done(self) -> bool:
        return (self.folder / SUMMARY).is_file()

    def summary(self) -> dict[str, Any]:
        """Of a cell that is done."""
        plain: dict[str, Any] = json.loads((self.folder / SUMMARY).read_text())
        return plain


@dataclass(frozen=True, slots=True)
class CellOutcome:
    """How a cell went; `problem` is None if well."""

    cell: ComparisonCell
    problem: str | None = None
    usage: bool = False  # the problem is the caller's mistake


def cell_in(folder: Path, label: str, config: RunConfig) -> ComparisonCell:
    """A cell of the comparison in `folder`.

    Raises:
        UsageError: There is a file of that name.
    """
    if folder.is_file():
        raise UsageError(f"out: {folder} is a file")
    name = f"{label}-seed{config.seed}-{digest(config)}"
    return ComparisonCell(label, config, folder / "cells" / name)


def run_cells(
    cells: Sequence[ComparisonCell], workers: int | None, on_done: Callable[[CellOutcome], None]
) -> list[CellOutcome]:
    """Run what is not done yet.

    Args:
        workers: Processes; None: one per CPU that this process may use.
        on_done: Called in this process as each cell that was run ends.

    Returns:
        The outcomes of the cells that were run.
    """
    waiting = [cell for cell in cells if not cell.done]
    num_workers = min(len(waiting), workers or (os.cpu_count() or 1))
    outcomes = _in_turn(waiting) if num_workers <= 1 else _in_parallel(waiting, num_workers)
    seen: list[CellOutcome] = []
    for outcome in outcomes:
        seen.append(outcome)
        on_done(outcome)
    return seen


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
                        futures[future], "its process died, perhaps for lack of memory"
                    )
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run_cell_interruptibly(cell: ComparisonCell, command: Sequence[str]) -> CellOutcome:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _run_cell(cell, command)
    finally:  # an idle process has nothing to clean up
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_cell(cell: ComparisonCell, command: Sequence[str]) -> CellOutcome:
    try:
        execute(cell.folder, cell.config, command)
    except UsageError as error:
        return CellOutcome(cell, str(error), usage=True)
    except (SllmError, OSError) as error:
        return CellOutcome(cell, f"{type(error).__name__}: {error}")
    return CellOutcome(cell)
