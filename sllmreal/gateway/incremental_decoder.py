"""Decoding of tokens to text, token by token, without splitting characters.

The text of a token depends on the tokens before it: a character may be split over several tokens,
and some tokenizers drop a space at the beginning. So the text of the pending tokens is the
difference of two texts that begin with the same few tokens:

    new = decode(before + pending) after its prefix decode(before)

`new` is held back while it ends in U+FFFD, which is the decoding of an incomplete character. A
character has at most 4 bytes. So tokens that still do not decode after MAX_PENDING of them are no
valid text. They are returned with their U+FFFD, except the last 3, which bounds delay and work.

A prompt may end inside a character. Its last tokens are then pending from the start, and what they
show by themselves is not returned again:

    new = decode(before + tail + output) after decode(before) and after what the tail shows of it
"""

from collections.abc import Callable, Sequence

MAX_PENDING = 16
CONTEXT_TOKENS = 6  # last tokens of the prompt, which precede the first output token
_TAIL_TOKENS = 3  # a character has at most 4 bytes, so at most 3 tokens are of an incomplete one
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class IncrementalDecoder:
    """The decoder of one output.

    If the whole output decodes without U+FFFD, the pieces add up to exactly its text.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], prompt: Sequence[int]) -> None:
        self._decode = decode
        begin, end = _context(decode, prompt)
        self._before = list(prompt[begin:end])
        self._text_before = decode(self._before) if self._before else ""
        self._pending = list(prompt[end:])
        # The text that the prompt's last tokens have without the output.
        self._shown = self._new_text(self._pending) if self._pending else ""

    def push(self, token: int) -> str:
        """Add a token; return the text that it completes, which may be empty."""
        self._pending.append(token)
        text = self._new_text(self._pending)
        if not text.endswith(_INCOMPLETE):
            return self._release(len(self._pending), text)
        if len(self._pending) > MAX_PENDING:
            complete = len(self._pending) - _TAIL_TOKENS
            return self._release(complete, self._new_text(self._pending[:complete]))
        return ""

    def flush(self) -> str:
        """Return the text that was held back."""
        if not self._pending:
            return ""
        return self._release(len(self._pending), self._new_text(self._pending))

    def _new_text(self, tokens: list[int]) -> str:
        return self._decode(self._before + tokens)[len(self._text_before) :]

    def _release(self, num_tokens: int, text: str) -> str:
        if not text:  # special tokens alone decode to nothing: they stay pending
            return ""
        new = text[_num_common(self._shown, text) :]
        self._shown = ""
        self._before = self._pending[:num_tokens]
        self._text_before = self._decode(self._before)
        del self._pending[:num_tokens]
        return new


def _num_common(first: str, second: str) -> int:
    """Return the number of characters that two texts begin with alike."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), len(first))


def _context(decode: Callable[[Sequence[int]], str], prompt: Sequence[int]) -> tuple[int, int]:
    """Return the bounds of the prompt's tokens to decode before the output.

    Tokens after them belong to a character that the prompt does not complete. Some tokenizers
    decode a run of bytes as a whole, to U+FFFD only if it begins inside a character: the first
    token is moved to the front by up to 3 then.
    """
    num_tokens = len(prompt)
    first = max(0, num_tokens - CONTEXT_TOKENS)
    for end in range(num_tokens, max(0, num_tokens - _TAIL_TOKENS) - 1, -1):
        for begin in range(first, max(0, first - _TAIL_TOKENS) - 1, -1):
            if begin >= end or not decode(prompt[begin:end]).endswith(_INCOMPLETE):
                return begin, end
    return first, max(0, num_tokens - _TAIL_TOKENS)
