"""Kill a writer at random instants; every write that it acknowledged must be in the file.

    python -m experiments.campaigns.store.kills --kills 500 --seed 1

Each round starts a writer on the same file, lets it acknowledge some writes, kills it with -9 after
a random time, opens the file and compares. Exits 1 at the first loss.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from sllmreal.store import read_lines
from sllmreal.store.sqlite import SqliteStore


@dataclass(slots=True)
class Acknowledged:
    """What the writers have said so far.

    Attributes:
        numbers: The last one put, by key.
        num_lines: Of the log.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    num_lines: int = 0
    num_writes: int = 0

    def hear(self, said: str) -> None:
        """A line of a writer."""
        kind, *words = said.split()
        self.num_writes += 1
        if kind == "put":
            self.numbers[words[0]] = int(words[1])
        else:
            self.num_lines = int(words[0]) + 1


def killed_after(path: Path, delay_s: float, acknowledged: Acknowledged) -> None:
    """Run a writer, kill it so long after its first acknowledgement, hear all that it said."""
    command = [sys.executable, "-m", "experiments.campaigns.store.writer", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        assert first, "the writer did not write"
        time.sleep(delay_s)  # the instant of the kill is what varies
        writer.kill()
        for said in [first, *writer.stdout]:
            if said.endswith(b"\n"):
                acknowledged.hear(said.decode())


async def losses(path: Path, acknowledged: Acknowledged) -> list[str]:
    """What is missing from the file, in words; a log with a gap raises JournalGapError.

    A client has one write under way, which may be there too; then it counts as acknowledged.
    """
    store = await SqliteStore.open(path)
    try:
        lost = []
        for key, number in list(acknowledged.numbers.items()):
            item = await store.get(key)
            found = int(item.value) if item else 0
            if not number <= found <= number + 1:
                lost.append(f"{key} is {found}, acknowledged {number}")
            acknowledged.numbers[key] = found
        lines = [line async for line in read_lines(store, "log")]
        if lines != [str(number) for number in range(len(lines))]:
            lost.append(f"the log is out of order: {lines}")
        if not acknowledged.num_lines <= len(lines) <= acknowledged.num_lines + 1:
            lost.append(f"{len(lines)} lines, acknowledged {acknowledged.num_lines}")
        acknowledged.num_lines = len(lines)
        return lost
    finally:
        await store.close()


def main() -> int:
    """Kill as often as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.campaigns.store.kills", description=__doc__
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, acknowledged = Random(options.seed), Acknowledged()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        for number in range(1, options.kills + 1):
            killed_after(path, rng.uniform(0.0, 0.15), acknowledged)
            if lost := asyncio.run(losses(path, acknowledged)):
                print(f"kill {number}: {'; '.join(lost)}")
                return 1
    print(f"{options.kills} kills, {acknowledged.num_writes} acknowledged writes, 0 lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
