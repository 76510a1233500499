"""Search for stop strings in a text that arrives in pieces.

Text is cut before the match that ends first; ties: the longest match. Text that may still become a
match is held back, so that no part of a stop string is ever sent.
"""

from collections.abc import Sequence


class StopStrings:
    """The search in one output. After `matched` no more text is returned."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(strings)
        self._first_chars = {string[0] for string in strings}
        self._longest = max(map(len, strings), default=0)
        self._held = ""
        self.matched = False

    def push(self, text: str) -> str:
        """Add text; return the text that is certainly before any stop string."""
        if not self._strings or self.matched:
            return "" if self.matched else text
        self._held += text
        start = self._match_start()
        if start is not None:
            self.matched = True
            text, self._held = self._held[:start], ""
            return text
        safe = self._possible_start()
        text, self._held = self._held[:safe], self._held[safe:]
        return text

    def flush(self) -> str:
        """Return the text that was held back, at the end of the output."""
        text, self._held = self._held, ""
        return text

    def _match_start(self) -> int | None:
        ends = []
        for string in self._strings:
            start = self._held.find(string)
            if start >= 0:
                ends.append((start + len(string), start))
        return min(ends)[1] if ends else None

    def _possible_start(self) -> int:
        held = self._held
        for start in range(max(0, len(held) - self._longest + 1), len(held)):
            if held[start] in self._first_chars:
                rest = held[start:]
                if any(string.startswith(rest) for string in self._strings):
                    return start
        return len(held)
