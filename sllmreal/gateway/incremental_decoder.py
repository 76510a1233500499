"""Decoding of tokens to text, token by token, without splitting characters.

The text of a token depends on the tokens before it: a character may be split over several tokens,
and some tokenizers drop a space at the beginning. So the text of the pending tokens is the
difference of two texts that begin with the same few tokens:

    new = decode(before + pending) after its prefix decode(before)

`new` is held back while it ends in U+FFFD, which is the decoding of an incomplete character. A
character has at most 4 bytes. So tokens that still do not decode after MAX_PENDING of them are no
valid text. They are returned with their U+FFFD, except the last 3, which bounds delay and work.
"""

from collections.abc import Callable, Sequence

MAX_PENDING = 16
CONTEXT_TOKENS = 6  # last tokens of the prompt, which precede the first output token
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class IncrementalDecoder:
    """The decoder of one output.

    If the whole output decodes without U+FFFD, the pieces add up to exactly its text.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], prompt: Sequence[int]) -> None:
        self._decode = decode
        self._before = list(prompt[-CONTEXT_TOKENS:])
        self._text_before = decode(self._before) if self._before else ""
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        """Add a token; return the text that it completes, which may be empty."""
        self._pending.append(token)
        text = self._text(self._pending)
        if not text.endswith(_INCOMPLETE):
            return self._release(len(self._pending), text)
        if len(self._pending) > MAX_PENDING:
            complete = len(self._pending) - 3
            return self._release(complete, self._text(self._pending[:complete]))
        return ""

    def flush(self) -> str:
        """Return the text that was held back."""
        return self._release(len(self._pending), self._text(self._pending)) if self._pending else ""

    def _text(self, tokens: list[int]) -> str:
        return self._decode(self._before + tokens)[len(self._text_before) :]

    def _release(self, num_tokens: int, text: str) -> str:
        if text:  # special tokens alone decode to nothing: they stay pending
            self._before = self._pending[:num_tokens]
            self._text_before = self._decode(self._before)
            del self._pending[:num_tokens]
        return text
