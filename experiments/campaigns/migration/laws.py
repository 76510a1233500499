"""Laws of a simulated migration, and the tokens that a host generates by its arithmetic."""

from collections.abc import Mapping, Sequence

from sllmreal.engine.mixing import splitmix64
from sllmreal.engine.protocol import SequenceSpec

VOCABULARY = 32000


class LawBrokenError(AssertionError):
    """A law does not hold in this run."""


def law(kept: bool, message: str) -> None:
    """Raise LawBrokenError if the law is not kept."""
    if not kept:
        raise LawBrokenError(message)


def check_tokens(
    spec: SequenceSpec, tokens: list[int], origins: Mapping[str, int], max_changes: int
) -> None:
    """Check that each token follows from the tokens before it by the arithmetic of one host.

    Args:
        origins: The origin of each host's arithmetic, by name (`VirtualHost`).
        max_changes: Number of times that the stream may have changed its host.

    Raises LawBrokenError.
    """
    predictions = {name: predicted(origin, spec, tokens) for name, origin in origins.items()}
    possible = set(predictions)  # hosts that may have generated the last tokens
    num_changes = 0
    for index, token in enumerate(tokens):
        matching = {name for name, expected in predictions.items() if expected[index] == token}
        law(bool(matching), f"token {index} follows from the context of no host")
        num_changes += not possible & matching
        possible = possible & matching or matching
    law(num_changes <= max_changes, f"{num_changes} changes of host, {max_changes} of route")


def predicted(origin: int, spec: SequenceSpec, tokens: Sequence[int]) -> list[int]:
    """Return the token that a host of this origin generates after each prefix of `tokens`."""
    state = origin
    for token in spec.prompt:
        state = splitmix64(state ^ token)
    expected = []
    for index, token in enumerate(tokens):
        noise = 0
        if spec.sampling.temperature > 0:
            noise = splitmix64(splitmix64(spec.sampling.seed) + index)
        expected.append(splitmix64(state ^ noise) % VOCABULARY)
        state = splitmix64(state ^ token)
    return expected
