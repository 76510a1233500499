"""Kills of a checkpoint's writer at random instants.

    python -m experiments.campaigns.checkpoint.kills --kills 5000

A forked process replaces a checkpoint over and over, each time with the next generation, and is
killed with SIGKILL. Afterwards the target must load, verified, as one whole generation, at least
the last one that the process acknowledged through a pipe.
"""

import argparse
import os
import random
import select
import signal
import sys
import tempfile
from pathlib import Path

import torch

from sllmreal.checkpoint import save_checkpoint
from sllmreal.checkpoint.convert import WriteOptions
from sllmreal.loader import LoadOptions, load_checkpoint

OPTIONS = WriteOptions(chunk_bytes=4096, num_partitions=2, replace=True)
LOADING = LoadOptions(chunk_bytes=1 << 20, num_readers=1, num_verifiers=1)


def generation(number: int) -> dict[str, torch.Tensor]:
    """Return a checkpoint in which every element is the generation's number."""
    return {
        f"layers.{layer}.weight": torch.full((64, 64), number, dtype=torch.int32)
        for layer in range(4)
    }


def kill_writers(kills: int, seed: int, directory: Path) -> None:
    """Kill writers; assert that the target is a whole generation, at least the acknowledged one."""
    rng = random.Random(seed)
    target = directory / "model"
    save_checkpoint(generation(0), target, OPTIONS)
    current = 0
    for number in range(kills):
        acked = _write_until_killed(target, current, rng.uniform(0.0, 0.02))
        loaded = load_checkpoint(target, options=LOADING)
        values = {int(value) for tensor in loaded.values() for value in tensor.flatten().tolist()}
        assert len(values) == 1, f"kill {number}: generations {values} mixed"
        current = values.pop()
        assert current >= acked, f"kill {number}: generation {acked} was acknowledged and is lost"


def _write_until_killed(target: Path, start: int, after_s: float) -> int:
    """Kill a writer `after_s` after its first byte; return the generation it acknowledged last."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:  # the writer: never returns
        try:
            os.close(receive)
            number = start
            os.write(send, number.to_bytes(4, "little"))
            while True:
                number += 1
                save_checkpoint(generation(number), target, OPTIONS)
                os.write(send, number.to_bytes(4, "little"))
        finally:
            os._exit(1)
    os.close(send)
    select.select([receive], [], [])
    select.select([], [], [], after_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    acknowledged = b""
    while part := os.read(receive, 4096):
        acknowledged += part
    os.close(receive)
    return int.from_bytes(acknowledged[-4:], "little")


def main() -> int:
    """Run the campaign in a temporary directory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        kill_writers(arguments.kills, arguments.seed, Path(directory))
    print(f"{arguments.kills} kills: 0 torn, 0 acknowledged generations lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
