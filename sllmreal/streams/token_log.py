"""The output tokens that a client has received."""

from collections.abc import Sequence

from sllmreal.engine.protocol import FinishReason, SequenceSpec


class TokenLog:
    """Output tokens from index 0 on, and their times. Tokens are only appended."""

    def __init__(self, spec: SequenceSpec) -> None:
        self._tokens = list(spec.output)
        self._max_tokens = spec.max_output_tokens
        self._stop_tokens = spec.stop_tokens
        self._num_forced = len(spec.sampling.forced)  # none of these is a stop token
        self._num_first = 0  # length of the log after the first append
        self.first_at_s: float | None = None
        self.last_at_s: float | None = None

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def tokens(self) -> tuple[int, ...]:
        """All tokens."""
        return tuple(self._tokens)

    @property
    def finish(self) -> FinishReason | None:
        """The finish reason that follows from the tokens alone; None if generation goes on."""
        if len(self._tokens) > self._num_forced and self._tokens[-1] in self._stop_tokens:
            return FinishReason.STOP
        return FinishReason.LENGTH if len(self._tokens) >= self._max_tokens else None

    @property
    def token_s(self) -> float:
        """Mean seconds between tokens; 0 before the second append."""
        num_since = len(self._tokens) - self._num_first
        if self.first_at_s is None or self.last_at_s is None or num_since == 0:
            return 0.0
        return (self.last_at_s - self.first_at_s) / num_since

    def append(self, first: int, tokens: Sequence[int], now_s: float) -> tuple[int, ...]:
        """Append those of the tokens from index `first` on that are new, and return them."""
        num_known = len(self._tokens)
        assert first <= num_known, "a gap"
        new = tuple(tokens[num_known - first :])
        if new:
            self._tokens += new
            if self.first_at_s is None:
                self.first_at_s, self._num_first = now_s, len(self._tokens)
            self.last_at_s = now_s
        return new
