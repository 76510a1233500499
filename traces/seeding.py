"""Random streams keyed by name: the stream of one model does not depend on which others exist.

`SeedSequence(seed, spawn_key=...)` is what `SeedSequence.spawn` builds, with the words of a hash
of the names in place of a running index. The same (seed, names) gives the same stream on every
Python version and PYTHONHASHSEED.
"""

from hashlib import blake2b

from numpy.random import PCG64, Generator, SeedSequence

from traces.errors import TraceError


def generator(seed: int, *names: str) -> Generator:
    """The stream that belongs to `names` under `seed`."""
    if seed < 0:
        raise TraceError(f"seed must be 0 or more, got {seed}")
    digest = blake2b("\x1f".join(names).encode(), digest_size=16).digest()
    key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))
    return Generator(PCG64(SeedSequence(seed, spawn_key=key)))
