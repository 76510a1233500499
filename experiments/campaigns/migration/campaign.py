"""Migrations in virtual time, something going wrong in each: every step, role and fault in turn.

    python -m experiments.campaigns.migration.campaign --runs 100000

Run number i visits cell i mod the number of cells, a third of the runs a second one besides, and a
quarter lose, repeat or delay messages at random. A failure prints the command that replays it.
"""

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from experiments.campaigns.migration.cells import ALL_CELLS, Cell
from experiments.campaigns.migration.simulation import LawBrokenError, World


@dataclass(slots=True)
class Tally:
    """What many runs came to."""

    visits: Counter[Cell] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    num_moved: int = 0
    num_not_moved: int = 0
    num_interrupted: int = 0
    broken: list[str] = field(default_factory=list)


def play(seed: int, tally: Tally) -> None:
    """One run of the campaign."""
    rng = Random(f"{seed}/campaign")
    cells = [ALL_CELLS[seed % len(ALL_CELLS)]]
    if rng.random() < 1 / 3:
        cells.append(rng.choice(ALL_CELLS))
    noise = rng.choice((0.0, 0.0, 0.0, 0.1))
    try:
        outcome = World(seed, tuple(cells), noise).run()
    except LawBrokenError as error:
        tally.broken.append(f"--first {seed} --runs 1: {error}")
        return
    tally.visits.update(outcome.visited)
    tally.ended[outcome.ended] += 1
    tally.num_moved += outcome.num_moved
    tally.num_not_moved += outcome.num_not_moved
    tally.num_interrupted += outcome.num_interrupted


def run(first: int, num_runs: int) -> Tally:
    """Runs `first` to `first + num_runs - 1`."""
    tally = Tally()
    for seed in range(first, first + num_runs):
        play(seed, tally)
    return tally


def table(tally: Tally) -> str:
    """Visits of every cell: a line per step and role, a column per fault."""
    lines = []
    for step in dict.fromkeys(cell.step for cell in ALL_CELLS):
        for role in dict.fromkeys(cell.role for cell in ALL_CELLS):
            row = [cell for cell in ALL_CELLS if cell.step is step and cell.role is role]
            counts = "  ".join(f"{cell.fault} {tally.visits[cell]}" for cell in row)
            lines.append(f"{step:15} {role or 'message':12} {counts}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    began_s = time.monotonic()
    tally = run(options.first, options.runs)
    print(table(tally))
    least = min(tally.visits[cell] for cell in ALL_CELLS)
    print(
        f"{options.runs} runs in {time.monotonic() - began_s:.0f} s; {len(ALL_CELLS)} cells, "
        f"each visited at least {least} times; {dict(tally.ended)}; {tally.num_moved} moves "
        f"finished, {tally.num_not_moved} did not, {tally.num_interrupted} interruptions; "
        f"{len(tally.broken)} broken laws"
    )
    for line in tally.broken[:20]:
        print(line)
    return 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())
