"""Random streams keyed by name: a model's stream does not depend on the other models.

`SeedSequence(seed, spawn_key=...)` is what `SeedSequence.spawn` makes, with the words of a hash of
the names in place of a running index. Equal (seed, names) give equal streams on every Python
version and PYTHONHASHSEED.
"""

from hashlib import blake2b

from numpy.random import PCG64, Generator, SeedSequence

from traces.errors import TraceError


def generator(seed: int, *names: str) -> Generator:
    """Return the random stream of `names` under `seed`.

    Raises:
        TraceError: `seed` is negative.
    """
    if seed < 0:
        raise TraceError(f"seed must be 0 or more, got {seed}")
    digest = blake2b("\x1f".join(names).encode(), digest_size=16).digest()
    key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))
    return Generator(PCG64(SeedSequence(seed, spawn_key=key)))
