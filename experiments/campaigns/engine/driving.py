"""Driving an engine by hand: to the end, or up to some number of output tokens."""

import itertools
from collections.abc import Sequence

from sllmreal.engine.protocol import Engine, KVBlock, OutputToken, SequenceSpec

MANY_STEPS = 10_000  # more than any sequence here takes


def drained(engine: Engine) -> list[OutputToken]:
    """Step until nothing is left to do; everything that came out."""
    tokens: list[OutputToken] = []
    for _ in range(MANY_STEPS):
        if not engine.has_work:
            return tokens
        tokens += engine.step()
    raise AssertionError("the engine never runs out of work")


def step_until_output(engine: Engine, request_id: str, num_output: int) -> None:
    for _ in range(MANY_STEPS):
        if engine.progress(request_id).num_output >= num_output:
            return
        engine.step()
    raise AssertionError(f"{request_id} never has {num_output} output tokens")


def whole_output(engine: Engine, spec: SequenceSpec) -> tuple[int, ...]:
    """The output of one sequence from start to end, which then leaves the engine."""
    engine.start(spec)
    drained(engine)
    output = engine.output(spec.request_id)
    engine.cancel(spec.request_id)
    return output


def copied_cache(
    source: Engine, request_id: str, begin: int, cuts: Sequence[int] = ()
) -> list[KVBlock]:
    """All that the source has cached from `begin` on, in blocks that end at `cuts` and the end."""
    end = source.progress(request_id).num_cached
    edges = [begin, *(cut for cut in cuts if begin < cut < end), end]
    return [
        source.export_kv(request_id, first, last)
        for first, last in itertools.pairwise(edges)
        if first < last
    ]
