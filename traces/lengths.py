"""Token lengths by inverse CDF: length = quantile(u), u uniform in [0, 1).

Quantiles are linear between grid points. Lengths of real requests have several modes (system
prompts, truncation limits), which no parametric family fits. Input and output are independent.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from traces.data_files import load_json
from traces.errors import TraceError

_FIRST_CHUNK, _LAST_CHUNK = 4, 1024  # lengths drawn at once; few for a model that is called once


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A distribution of lengths: `tokens[i]` is the quantile at `probabilities[i]`.

    Raises:
        TraceError: The probabilities do not rise from 0 to 1, or the tokens fall.
    """

    probabilities: tuple[float, ...]
    tokens: tuple[float, ...]

    def __post_init__(self) -> None:
        probabilities, values = self.probabilities, self.tokens
        if len(probabilities) != len(values) or len(values) < 2:
            raise TraceError(
                f"a length profile needs a quantile per probability, 2 or more, got {len(values)} "
                f"for {len(probabilities)}"
            )
        if probabilities[0] != 0.0 or probabilities[-1] != 1.0:
            raise TraceError(
                f"the probabilities of a length profile must run from 0 to 1, got {probabilities}"
            )
        if list(probabilities) != sorted(set(probabilities)) or list(values) != sorted(values):
            raise TraceError("the quantiles of a length profile must rise")

    def sample(self, rng: Generator, num: int) -> NDArray[np.int64]:
        """Draw token counts `(num,)`, each at least 1."""
        drawn = np.interp(rng.random(num), self.probabilities, self.tokens)
        return np.maximum(np.rint(drawn), 1.0).astype(np.int64)


@dataclass(frozen=True, slots=True)
class LengthProfile:
    """Input and output lengths of a data set, with their source."""

    name: str
    input: Quantiles
    output: Quantiles
    source: str
    licence: str


@dataclass(frozen=True, slots=True)
class Lengths:
    """The lengths of a request."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class LengthLimits:
    """The limits of a model on lengths.

    Args:
        context_limit_tokens: Limit of the input (2,048 in the ServerlessLLM paper).
        total_limit_tokens: Limit of input + output. The output is cut first, to one token at least.

    Raises:
        TraceError: A limit is below 1.
    """

    context_limit_tokens: int | None = None
    total_limit_tokens: int | None = None

    def __post_init__(self) -> None:
        for limit in (self.context_limit_tokens, self.total_limit_tokens):
            if limit is not None and limit < 1:
                raise TraceError(f"a limit of tokens must be at least 1, got {limit}")

    def cut(self, lengths: Lengths) -> Lengths:
        """Return lengths within the limits."""
        inputs, outputs = lengths.input_tokens, lengths.output_tokens
        if self.context_limit_tokens is not None:
            inputs = min(inputs, self.context_limit_tokens)
        if self.total_limit_tokens is not None:
            inputs = min(inputs, self.total_limit_tokens)
            outputs = max(1, min(outputs, self.total_limit_tokens - inputs))
        return Lengths(inputs, outputs)


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles, sorted."""
    return tuple(sorted(load_json("length_profiles.json")["profiles"]))


def length_profile(name: str) -> LengthProfile:
    """Return a profile of the package.

    Raises:
        TraceError: There is none of that name; the message lists the names.
    """
    profiles = load_json("length_profiles.json")["profiles"]
    if name not in profiles:
        raise TraceError(f"no length profile {name!r}; there are {', '.join(sorted(profiles))}")
    data = profiles[name]
    grids = [
        Quantiles(tuple(data[side]["probabilities"]), tuple(data[side]["tokens"]))
        for side in ("input", "output")
    ]
    return LengthProfile(name, grids[0], grids[1], data["source"], data["licence"])


def length_stream(profile: LengthProfile, rng: Generator) -> Iterator[Lengths]:
    """Yield lengths without end."""
    chunk = _FIRST_CHUNK
    while True:
        inputs = profile.input.sample(rng, chunk).tolist()
        outputs = profile.output.sample(rng, chunk).tolist()
        yield from map(Lengths, inputs, outputs)
        chunk = min(2 * chunk, _LAST_CHUNK)
