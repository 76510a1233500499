"""Cells as values. Each parser raises ValueError saying what it expected; columns go faster.

A column parser reads many cells at once and raises ValueError without saying which is wrong: the
caller then goes cell by cell.
"""

import math
from collections.abc import Sequence

MAX_TOKENS = 10_000_000  # the longest context window on offer; anything above is a broken cell

MAX_INVOCATIONS = 1_000_000_000  # of one function in one minute; the busiest of 2019 had 151,835


def tokens(text: str) -> int:
    """A token count. Whole floats ("12.0", what pandas writes after a gap) are read as whole."""
    if text.isdigit() and text.isascii():
        count = int(text)
    else:
        value = seconds(text) if text[:1] != "-" else -1.0
        if value < 0 or value != int(value):
            raise ValueError("a whole number of tokens, 0 or more")
        count = int(value)
    if count > MAX_TOKENS:
        raise ValueError(f"at most {MAX_TOKENS} tokens")
    return count


def tokens_column(cells: Sequence[str]) -> list[int]:
    digits = "".join(cells)
    if not (digits.isdigit() and digits.isascii()):
        raise ValueError
    counts = list(map(int, cells))
    if max(counts) > MAX_TOKENS:
        raise ValueError
    return counts


def invocations(text: str) -> int:
    """A count of calls; an empty cell is 0, as re-exports of the 2019 files leave it."""
    if not text:
        return 0
    if not (text.isdigit() and text.isascii()):
        raise ValueError("a whole number of invocations, 0 or more")
    if int(text) > MAX_INVOCATIONS:
        raise ValueError(f"at most {MAX_INVOCATIONS} invocations in a minute")
    return int(text)


def seconds(text: str) -> float:
    """A finite number that is 0 or more."""
    value = number(text)
    if value < 0:
        raise ValueError("a number that is 0 or more")
    return value


def seconds_column(cells: Sequence[str]) -> list[float]:
    values, text = list(map(float, cells)), "".join(cells)
    if "_" in text or not text.isascii():
        raise ValueError
    if not all(map(math.isfinite, values)) or min(values) < 0:
        raise ValueError
    return values


def number(text: str) -> float:
    """A finite number; no underscores or foreign digits, which only Python would accept."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError("a number") from None
    if not math.isfinite(value) or "_" in text or not text.isascii():
        raise ValueError("a finite number")
    return value


def name(text: str) -> str:
    """A name that is not empty."""
    if not text:
        raise ValueError("a name")
    return text


def name_column(cells: Sequence[str]) -> list[str]:
    if "" in cells:
        raise ValueError
    return list(cells)
