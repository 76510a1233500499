"""Pseudo-random numbers without state: a number is a function of its purpose.

splitmix64(x) = finalizer(x + 0x9E3779B97F4A7C15)
    (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014)
uniform(seed, index) = (splitmix64(splitmix64(seed) + index) >> 11) * 2**-53
"""

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15


def splitmix64(value: int) -> int:
    """Return 64 bits that each depend on every bit of `value`, taken modulo 2**64."""
    mixed = (value + _GAMMA) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)


def uniform(seed: int, index: int) -> float:
    """Return the number in [0, 1) that decides the output token at `index`."""
    return (splitmix64(splitmix64(seed) + index) >> 11) * 2.0**-53
