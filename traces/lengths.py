"""Token lengths by inverse CDF: u uniform in [0, 1), length = quantile(u), linear in between.

Lengths of real requests are multi-modal (system prompts, truncation limits) and no single family
fits them; a quantile grid does. Input and output are drawn independently.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from traces.data_files import load_json
from traces.errors import TraceError

_FIRST_CHUNK, _LAST_CHUNK = 4, 1024  # draws made at a time: few for a model called once


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A length distribution: `tokens[i]` is the quantile at `probabilities[i]`, both rising."""

    probabilities: tuple[float, ...]
    tokens: tuple[float, ...]

    def __post_init__(self) -> None:
        probabilities, values = self.probabilities, self.tokens
        if len(probabilities) != len(values) or len(values) < 2:
            raise TraceError("a length profile needs as many quantiles as probabilities, 2 or more")
        if probabilities[0] != 0.0 or probabilities[-1] != 1.0:
            raise TraceError("the probabilities of a length profile run from 0 to 1")
        if list(probabilities) != sorted(set(probabilities)) or list(values) != sorted(values):
            raise TraceError("the quantiles of a length profile must rise")

    def sample(self, rng: Generator, num: int) -> NDArray[np.int64]:
        """Token counts `(num,)`, at least 1."""
        drawn = np.interp(rng.random(num), self.probabilities, self.tokens)
        return np.maximum(np.rint(drawn), 1.0).astype(np.int64)


@dataclass(frozen=True, slots=True)
class LengthProfile:
    """Input and output lengths of one data set, and where they come from."""

    name: str
    input: Quantiles
    output: Quantiles
    source: str
    licence: str


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of one request."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class LengthLimits:
    """How lengths are cut to what a model takes.

    Args:
        context_limit_tokens: Inputs are cut to it (2,048 in the ServerlessLLM paper).
        total_limit_tokens: Outputs are cut so that input + output stay within it; at least one
            token is generated.
    """

    context_limit_tokens: int | None = None
    total_limit_tokens: int | None = None

    def __post_init__(self) -> None:
        for limit in (self.context_limit_tokens, self.total_limit_tokens):
            if limit is not None and limit < 1:
                raise TraceError(f"a limit of tokens must be positive, got {limit}")

    def cut(self, lengths: Lengths) -> Lengths:
        inputs, outputs = lengths.input_tokens, lengths.output_tokens
        if self.context_limit_tokens is not None:
            inputs = min(inputs, self.context_limit_tokens)
        if self.total_limit_tokens is not None:
            inputs = min(inputs, self.total_limit_tokens)
            outputs = max(1, min(outputs, self.total_limit_tokens - inputs))
        return Lengths(inputs, outputs)


def profile_names() -> tuple[str, ...]:
    return tuple(sorted(load_json("length_profiles.json")["profiles"]))


def length_profile(name: str) -> LengthProfile:
    """A profile that ships with the package. Raises TraceError naming those there are."""
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
    """Lengths without end."""
    chunk = _FIRST_CHUNK
    while True:
        inputs = profile.input.sample(rng, chunk).tolist()
        outputs = profile.output.sample(rng, chunk).tolist()
        yield from map(Lengths, inputs, outputs)
        chunk = min(2 * chunk, _LAST_CHUNK)
