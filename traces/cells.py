"""Parsers of table cells.

A cell parser raises ValueError with the expected kind of value as its text. A column parser reads
many cells at once, faster, and raises ValueError without text: the caller then parses cell by cell
to find the wrong one.
"""

import math
from collections.abc import Sequence

MAX_TOKENS = 10_000_000  # the longest context window of any model; a larger number is a broken cell

MAX_INVOCATIONS = 1_000_000_000  # of one function in one minute; the busiest of 2019 had 151,835


def tokens(text: str) -> int:
    """Return a token count; "12.0", as pandas writes a column with gaps, is 12."""
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
    """Return the token counts of a column."""
    digits = "".join(cells)
    if not (digits.isdigit() and digits.isascii()):
        raise ValueError
    counts = list(map(int, cells))
    if max(counts) > MAX_TOKENS:
        raise ValueError
    return counts


def invocations(text: str) -> int:
    """Return a count of calls; an empty cell, as in re-exports of the 2019 files, is 0."""
    if not text:
        return 0
    if not (text.isdigit() and text.isascii()):
        raise ValueError("a whole number of invocations, 0 or more")
    if int(text) > MAX_INVOCATIONS:
        raise ValueError(f"at most {MAX_INVOCATIONS} invocations in a minute")
    return int(text)


def seconds(text: str) -> float:
    """Return a finite number that is 0 or more."""
    value = number(text)
    if value < 0:
        raise ValueError("a number that is 0 or more")
    return value


def seconds_column(cells: Sequence[str]) -> list[float]:
    """Return the numbers of a column, each finite and 0 or more."""
    values, text = list(map(float, cells)), "".join(cells)
    if "_" in text or not text.isascii():
        raise ValueError
    if not all(map(math.isfinite, values)) or min(values) < 0:
        raise ValueError
    return values


def number(text: str) -> float:
    """Return a finite number, without the underscores and foreign digits that `float` accepts."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError("a number") from None
    if not math.isfinite(value) or "_" in text or not text.isascii():
        raise ValueError("a finite number")
    return value


def name(text: str) -> str:
    """Return a name; it must not be empty."""
    if not text:
        raise ValueError("a name")
    return text


def name_column(cells: Sequence[str]) -> list[str]:
    """Return the names of a column; none may be empty."""
    if "" in cells:
        raise ValueError
    return list(cells)
