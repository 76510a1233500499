"""Drive engines by hand: to the end, up to a number of output tokens, or through a migration."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sllmreal.engine.protocol import Engine, KVBlock, OutputToken, Sampling, SequenceSpec

MAX_STEPS = 10_000  # more than any sequence of a test or campaign needs


class CacheTransfer(StrEnum):
    """Ways to build the KV cache of a migrated sequence at the destination."""

    REPLAY = "token replay"  # the destination computes it from the tokens
    COPY = "KV copy"  # the destination imports it from the source
    BOTH = "prefix replayed, tail copied"


@dataclass(frozen=True, slots=True)
class MigrationCase:
    """A sequence that is migrated after `num_output` tokens.

    Attributes:
        num_early: Output tokens that the destination has from the start, while the source goes on.
    """

    spec: SequenceSpec
    transfer: CacheTransfer
    num_early: int
    num_output: int


def drained(engine: Engine) -> list[OutputToken]:
    """Step until the engine has no work left, and return its output."""
    tokens: list[OutputToken] = []
    for _ in range(MAX_STEPS):
        if not engine.has_work:
            return tokens
        tokens += engine.step()
    raise AssertionError(f"the engine still has work after {MAX_STEPS} steps")


def step_until_output(engine: Engine, request_id: str, num_output: int) -> None:
    """Step until the sequence has `num_output` output tokens."""
    for _ in range(MAX_STEPS):
        if engine.progress(request_id).num_output >= num_output:
            return
        engine.step()
    raise AssertionError(f"{request_id} has fewer than {num_output} tokens after {MAX_STEPS} steps")


def whole_output(engine: Engine, spec: SequenceSpec) -> tuple[int, ...]:
    """Generate one sequence from start to end, remove it, and return its output."""
    engine.start(spec)
    drained(engine)
    output = engine.output(spec.request_id)
    engine.cancel(spec.request_id)
    return output


def copied_cache(
    source: Engine, request_id: str, begin: int, cuts: Sequence[int] = ()
) -> list[KVBlock]:
    """Export the cached positions from `begin` on, in blocks that end at `cuts` and at the end."""
    end = source.progress(request_id).num_cached
    edges = [begin, *(cut for cut in cuts if begin < cut < end), end]
    return [
        source.export_kv(request_id, first, last)
        for first, last in itertools.pairwise(edges)
        if first < last
    ]


def migrated_output(source: Engine, destination: Engine, case: MigrationCase) -> tuple[int, ...]:
    """Start the sequence at `source`, migrate it to `destination`, and return its whole output."""
    name = case.spec.request_id
    source.start(case.spec)
    step_until_output(source, name, case.num_early)
    early = source.output(name)
    destination.start(replace(case.spec, output=early), held=True)
    if case.transfer is not CacheTransfer.COPY:
        drained(destination)  # computes the prefix while the source goes on
    step_until_output(source, name, case.num_output)
    source.hold(name)
    destination.extend(name, source.output(name)[len(early) :])
    if case.transfer is not CacheTransfer.REPLAY:
        begin = destination.progress(name).num_cached
        for block in copied_cache(source, name, begin, (begin + 3, begin + 16)):
            destination.import_kv(name, block)
    source.cancel(name)
    destination.release(name)
    drained(destination)
    output = destination.output(name)
    destination.cancel(name)
    return output


def sampling_of(kind: str, seed: int) -> Sampling:
    """Return greedy sampling for "greedy", else one that uses temperature, top_k and top_p."""
    return Sampling() if kind == "greedy" else Sampling(1.0, top_k=100, top_p=0.95, seed=seed)
