"""Search for stop strings in a text that arrives in pieces.

Text is cut at the match that ends first; ties: the longest match. Text that may still become a
match is held back, so that no part of a stop string is ever sent.

Work per character is bounded by the number of distinct lengths of the strings, not by their number.
"""

from bisect import bisect_left
from collections.abc import Sequence


class StopStrings:
    """The search in one output. After `matched` no more text is returned.

    Args:
        strings: Not empty ones.
        included: Cut behind the match instead of before it.
    """

    def __init__(self, strings: Sequence[str], *, included: bool = False) -> None:
        self._sorted = sorted(set(strings))
        self._strings = frozenset(strings)
        self._included = included
        self._first_chars = {string[0] for string in strings}
        self._lengths = sorted({len(string) for string in strings}, reverse=True)
        self._held = ""
        self._num_searched = 0  # characters of `_held` that no match ends in
        self.matched = False

    def push(self, text: str) -> str:
        """Add text; return the text that is certainly before any stop string."""
        if not self._strings or self.matched:
            return "" if self.matched else text
        self._held += text
        end = self._match_end()
        if end is not None:
            self.matched = True
            text, self._held = self._held[:end], ""
            return text
        return self._certain()

    def skip(self, text: str) -> str:
        """Add text that no match may end in; return the text that is certainly before any."""
        if not self._strings:
            return text
        self._held += text
        return self._certain()

    def _certain(self) -> str:
        safe = self._possible_start()
        text, self._held = self._held[:safe], self._held[safe:]
        self._num_searched = len(self._held)
        return text

    def flush(self) -> str:
        """Return the text that was held back, at the end of the output."""
        text, self._held = self._held, ""
        self._num_searched = 0
        return text

    def _match_end(self) -> int | None:
        """Return where to cut the held text."""
        for end in range(self._num_searched + 1, len(self._held) + 1):
            for length in self._lengths:  # the longest first
                if length <= end and self._held[end - length : end] in self._strings:
                    return end if self._included else end - length
        return None

    def _possible_start(self) -> int:
        held = self._held
        for start in range(max(0, len(held) - self._lengths[0] + 1), len(held)):
            if held[start] in self._first_chars and self._begins_a_string(held[start:]):
                return start
        return len(held)

    def _begins_a_string(self, text: str) -> bool:
        place = bisect_left(self._sorted, text)
        return place < len(self._sorted) and self._sorted[place].startswith(text)
