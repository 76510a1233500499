"""Simulate migrations in virtual time with faults at every step, and check the laws of each run.

    python -m experiments.campaigns.migration.campaign --runs 100000

A cell is a fault at a step of the migration: a crash or stall of a process, a lost, repeated or
late message, or a cancellation. Run i injects cell i modulo the number of cells. A third of the
runs inject a second, random cell, and a quarter lose, repeat or delay messages at random.

Checks the laws of `simulation` (tokens, events, nothing left behind), and prints for each violation
the arguments that reproduce it.

Duration: about 4 minutes for 100,000 runs. Exit status: 1 if a law was broken.
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from experiments.benchmarks.terminal import ProgressLine, command_parser
from experiments.campaigns.migration.cells import ALL_CELLS, FaultCell
from experiments.campaigns.migration.laws import LawBrokenError
from experiments.campaigns.migration.simulation import SimulatedMigration


@dataclass(slots=True)
class CampaignResults:
    """Sums over many runs.

    Attributes:
        visits: Runs in which each cell was injected.
        ended: Runs by the end of their request.
        broken: The arguments that reproduce each violation, and the broken law.
    """

    visits: Counter[FaultCell] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    num_moved: int = 0
    num_not_moved: int = 0
    num_interrupted: int = 0
    broken: list[str] = field(default_factory=list)


def _run_one(seed: int, results: CampaignResults) -> None:
    rng = Random(f"{seed}/campaign")
    cells = [ALL_CELLS[seed % len(ALL_CELLS)]]
    if rng.random() < 1 / 3:
        cells.append(rng.choice(ALL_CELLS))
    noise = rng.choice((0.0, 0.0, 0.0, 0.1))
    try:
        outcome = SimulatedMigration(seed, tuple(cells), noise).run()
    except LawBrokenError as error:
        results.broken.append(f"--first {seed} --runs 1: {error}")
        return
    results.visits.update(outcome.visited)
    results.ended[outcome.ended] += 1
    results.num_moved += outcome.num_moved
    results.num_not_moved += outcome.num_not_moved
    results.num_interrupted += outcome.num_interrupted


def run(first: int, num_runs: int) -> CampaignResults:
    """Run the simulations `first` to `first + num_runs - 1` and return their sums."""
    results = CampaignResults()
    with ProgressLine("runs", num_runs) as progress:
        for number in range(num_runs):
            _run_one(first + number, results)
            progress.show(number + 1, f"{len(results.broken)} broken laws")
    return results


def table(results: CampaignResults) -> str:
    """Return the visits of every cell, a line per step and role."""
    lines = []
    for step in dict.fromkeys(cell.step for cell in ALL_CELLS):
        for role in dict.fromkeys(cell.role for cell in ALL_CELLS):
            row = [cell for cell in ALL_CELLS if cell.step is step and cell.role is role]
            counts = "  ".join(f"{cell.fault} {results.visits[cell]}" for cell in row)
            lines.append(f"{step:15} {role or 'message':12} {counts}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; return 1 if a law was broken."""
    parser = command_parser("experiments.campaigns.migration.campaign", __doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="simulated migrations")
    parser.add_argument(
        "--first", type=int, default=0, help="number (random seed) of the first run"
    )
    options = parser.parse_args(argv)
    began_s = time.monotonic()
    results = run(options.first, options.runs)
    print(table(results))
    least = min(results.visits[cell] for cell in ALL_CELLS)
    print(
        f"{options.runs} runs in {time.monotonic() - began_s:.0f} s; {len(ALL_CELLS)} cells, "
        f"each visited at least {least} times; {dict(results.ended)}; "
        f"{results.num_moved} migrations finished, {results.num_not_moved} failed, "
        f"{results.num_interrupted} interruptions; "
        f"{len(results.broken)} broken laws"
    )
    for line in results.broken[:20]:
        print(line)
    return 1 if results.broken else 0


if __name__ == "__main__":
    sys.exit(main())
