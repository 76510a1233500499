"""Kill a writer of a SQLite store at random times, and check that each acknowledged write is there.

    python -m experiments.campaigns.store.kills --kills 500

Each round starts a writer process on the same file, lets it acknowledge some writes, kills it with
SIGKILL up to 0.15 s after its first acknowledgement, opens the file and compares.

Duration: about 3 minutes for 500 kills. Exit status: 1 at the first loss.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from experiments.benchmarks.terminal import ProgressLine, command_parser
from sllmreal.store import read_lines
from sllmreal.store.sqlite import SqliteStore


@dataclass(slots=True)
class AcknowledgedWrites:
    """The writes that all writers have acknowledged so far.

    Attributes:
        numbers: The last number put, by key.
        num_lines: Lines of the log.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    num_lines: int = 0
    num_writes: int = 0

    def add(self, line: str) -> None:
        """Count a line that a writer printed (format: `writer`)."""
        kind, *words = line.split()
        self.num_writes += 1
        if kind == "put":
            self.numbers[words[0]] = int(words[1])
        else:
            self.num_lines = int(words[0]) + 1


def run_and_kill_writer(path: Path, delay_s: float, acknowledged: AcknowledgedWrites) -> None:
    """Start a writer, kill it `delay_s` after its first acknowledgement; count its writes."""
    command = [sys.executable, "-m", "experiments.campaigns.store.writer", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        assert first, "the writer did not write"
        time.sleep(delay_s)  # so that each kill strikes at another point of a write
        writer.kill()
        for line in [first, *writer.stdout]:
            if line.endswith(b"\n"):
                acknowledged.add(line.decode())


async def losses(path: Path, acknowledged: AcknowledgedWrites) -> list[str]:
    """Return a line for each acknowledged write that the file lacks, and update `acknowledged`.

    The file may hold one write more per client, which was under way at the kill; that write counts
    as acknowledged from here on. Raises JournalGapError if the log has a gap.
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
            lost.append(f"the log has {len(lines)} lines, acknowledged {acknowledged.num_lines}")
        acknowledged.num_lines = len(lines)
        return lost
    finally:
        await store.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; return 1 if a write was lost."""
    parser = command_parser("experiments.campaigns.store.kills", __doc__)
    parser.add_argument("--kills", type=int, default=100, help="writers to kill")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the times of the kills")
    options = parser.parse_args(argv)
    rng, acknowledged = Random(options.seed), AcknowledgedWrites()
    with (
        tempfile.TemporaryDirectory() as folder,
        ProgressLine("kills", options.kills) as progress,
    ):
        path = Path(folder) / "store.db"
        for number in range(1, options.kills + 1):
            run_and_kill_writer(path, rng.uniform(0.0, 0.15), acknowledged)
            if lost := asyncio.run(losses(path, acknowledged)):
                print(f"kill {number}: {'; '.join(lost)}")
                return 1
            progress.show(number, f"{acknowledged.num_writes:,} acknowledged writes")
    print(f"{options.kills} kills, {acknowledged.num_writes} acknowledged writes, 0 lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
