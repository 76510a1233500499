"""Tokens to text while they come, never a part of a character.

The text of a token depends on those before it: bytes of one character lie in several tokens, and
some tokenizers drop a space at the beginning. So two texts are compared, with a few tokens before:

    new = decode(before + pending)  without its beginning  decode(before)

and `new` is held back while it ends in U+FFFD, which is what an incomplete character decodes to. A
character has at most 4 bytes: what still does not decode after MAX_PENDING tokens is no text at
all, and is given as it is but for its last 3 tokens, so that neither waiting nor work grows.
"""

from collections.abc import Callable, Sequence

MAX_PENDING = 16
CONTEXT_TOKENS = 6  # of the prompt, as what goes before the first token
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class IncrementalDecoder:
    """The text of one output. Where all tokens decode without U+FFFD, the pieces make up exactly
    the text of the whole."""

    def __init__(self, decode: Callable[[Sequence[int]], str], prompt: Sequence[int]) -> None:
        self._decode = decode
        self._before = list(prompt[-CONTEXT_TOKENS:])
        self._text_before = decode(self._before) if self._before else ""
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        """Text that is complete with this token, often a word, sometimes nothing."""
        self._pending.append(token)
        text = self._text(self._pending)
        if not text.endswith(_INCOMPLETE):
            return self._given(len(self._pending), text)
        if len(self._pending) > MAX_PENDING:
            complete = len(self._pending) - 3
            return self._given(complete, self._text(self._pending[:complete]))
        return ""

    def flush(self) -> str:
        """What was held back."""
        return self._given(len(self._pending), self._text(self._pending)) if self._pending else ""

    def _text(self, tokens: list[int]) -> str:
        return self._decode(self._before + tokens)[len(self._text_before) :]

    def _given(self, num_tokens: int, text: str) -> str:
        if text:  # special tokens alone decode to nothing, and are no context for what follows
            self._before = self._pending[:num_tokens]
            self._text_before = self._decode(self._before)
            del self._pending[:num_tokens]
        return text
