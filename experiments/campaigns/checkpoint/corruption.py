"""Injected corruptions: a load must detect each one.

    python -m experiments.campaigns.checkpoint.corruption --injections N

An injection changes a valid checkpoint's files, loads it, and restores the files. Or it changes
the checkpoint's chunks in a pool, and a load with `verify_resident` must detect and repair them.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.campaigns.checkpoint.samples import saved
from sllmreal.checkpoint import BadCheckpointError, CorruptCheckpointError, StorageError
from sllmreal.loader import ChunkPool, LoadOptions, load_checkpoint
from sllmreal.loader.memory import HUGE_PAGE_BYTES, buffer_at
from sllmreal.loader.plan import ChunkKey

CHUNK_BYTES = 4096
OPTIONS = LoadOptions(chunk_bytes=65536, num_readers=2, num_verifiers=1)


@contextmanager
def changed(path: Path, offset: int, content: bytes) -> Iterator[bool]:
    """Write `content` at `offset` of the file until the end; yield False if it was there before."""
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        before = file.read(len(content))
        file.seek(offset)
        file.write(content)
        try:
            yield before != content
        finally:
            file.seek(offset)
            file.write(before)


def bit_flip(rng: random.Random, raw: bytes) -> tuple[int, bytes]:
    """Return the offset and content of a byte with one wrong bit."""
    offset = rng.randrange(len(raw))
    return offset, bytes([raw[offset] ^ (1 << rng.randrange(8))])


def zeroed_page(rng: random.Random, raw: bytes) -> tuple[int, bytes]:
    """Return the offset of a page, and zeros."""
    return rng.randrange(len(raw) // 4096) * 4096, bytes(4096)


def swapped_chunks(rng: random.Random, raw: bytes) -> tuple[int, bytes]:
    """Return the span from one chunk to another with these two exchanged."""
    one, other = sorted(rng.sample(range(len(raw) // CHUNK_BYTES), 2))
    first = raw[one * CHUNK_BYTES : (one + 1) * CHUNK_BYTES]
    second = raw[other * CHUNK_BYTES : (other + 1) * CHUNK_BYTES]
    between = raw[(one + 1) * CHUNK_BYTES : other * CHUNK_BYTES]
    return one * CHUNK_BYTES, second + between + first


def stale_chunk(rng: random.Random, raw: bytes) -> tuple[int, bytes]:
    """Return a chunk as in another version of the model: the same place, other numbers."""
    chunk = rng.randrange(len(raw) // CHUNK_BYTES)
    return chunk * CHUNK_BYTES, rng.randbytes(CHUNK_BYTES)


KINDS: tuple[Callable[[random.Random, bytes], tuple[int, bytes]], ...] = (
    bit_flip,
    zeroed_page,
    swapped_chunks,
    stale_chunk,
)


def inject(injections: int, seed: int, directory: Path) -> int:
    """Inject corruptions into files and return how many were detected.

    An injection that changed no byte counts as detected.
    """
    rng = random.Random(seed)
    path = directory / f"model-{seed}"
    layout = saved(path, num_partitions=2, chunk_bytes=CHUNK_BYTES)
    files = [path / part.file for part in layout.partitions]
    num_detected = 0
    for number in range(injections):
        # One injection in 16 changes the index: its digest must detect that.
        file = path / "index.sllm" if number % 16 == 15 else files[number % 2]
        kind = bit_flip if number % 16 == 15 else KINDS[number // 2 % len(KINDS)]
        offset, content = kind(rng, file.read_bytes())
        with changed(file, offset, content) as differs:
            try:
                load_checkpoint(path, options=OPTIONS)
            except (BadCheckpointError, CorruptCheckpointError, StorageError):
                num_detected += 1
                continue
            assert not differs, (
                f"seed {seed}: injection {number} ({kind.__name__}) was not detected"
            )
            num_detected += 1  # the injected bytes are those of the file
    return num_detected


def inject_resident(injections: int, seed: int, directory: Path) -> int:
    """Inject corruptions into a pool's memory and return how many were repaired from the files."""
    rng = random.Random(seed)
    path = directory / f"resident-{seed}"
    layout = saved(path, num_partitions=2, chunk_bytes=CHUNK_BYTES)
    options = LoadOptions(num_readers=2, num_verifiers=2, verify_resident=True)
    num_detected = 0
    with ChunkPool(4 * HUGE_PAGE_BYTES, HUGE_PAGE_BYTES) as pool:
        load_checkpoint(path, pool=pool, options=options)
        held = pool.resident(layout.identity)
        sound = [(path / part.file).read_bytes() for part in layout.partitions]
        for number in range(injections):
            raw = sound[number % 2]
            address = pool.chunk_address(held[ChunkKey(number % 2, 0)])
            offset, content = KINDS[number // 2 % len(KINDS)](rng, raw)
            memory = buffer_at(address, len(raw))
            memory[offset : offset + len(content)] = content
            load_checkpoint(path, pool=pool, options=options)
            assert memory == raw, f"seed {seed}: injection {number} was not repaired in the pool"
            num_detected += 1
    return num_detected


def main() -> int:
    """Inject into files and into a pool; return 0 if every corruption was detected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--injections", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        in_files = inject(arguments.injections, arguments.seed, Path(directory))
        in_memory = inject_resident(arguments.injections, arguments.seed, Path(directory))
    print(f"{in_files} of {arguments.injections} corruptions of files detected")
    print(f"{in_memory} of {arguments.injections} corruptions of resident chunks repaired")
    return 0 if in_files == in_memory == arguments.injections else 1


if __name__ == "__main__":
    sys.exit(main())
