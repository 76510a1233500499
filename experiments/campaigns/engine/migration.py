"""Moving a sequence between engines by every strategy, and comparing what comes out."""

from dataclasses import dataclass, replace
from enum import StrEnum

from experiments.campaigns.engine.driving import copied_cache, drained, step_until_output
from sllmreal.engine.protocol import Engine, Sampling, SequenceSpec


class Strategy(StrEnum):
    """How the cache comes to the destination."""

    REPLAY = "token replay"  # it computes all tokens itself
    COPY = "KV copy"  # it gets the source's cache
    BOTH = "prefix replayed, tail copied"


@dataclass(frozen=True, slots=True)
class Move:
    """A sequence that moves when it has `num_output` tokens, the first `num_early` told before."""

    spec: SequenceSpec
    strategy: Strategy
    num_early: int
    num_output: int


def migrated_output(source: Engine, destination: Engine, move: Move) -> tuple[int, ...]:
    """The output of a sequence that began at `source` and ended at `destination`."""
    name = move.spec.request_id
    source.start(move.spec)
    step_until_output(source, name, move.num_early)
    early = source.output(name)
    destination.start(replace(move.spec, output=early), held=True)
    if move.strategy is not Strategy.COPY:
        drained(destination)  # computes the prefix while the source goes on
    step_until_output(source, name, move.num_output)
    source.hold(name)
    destination.extend(name, source.output(name)[len(early) :])
    if move.strategy is not Strategy.REPLAY:
        begin = destination.progress(name).num_cached
        for block in copied_cache(source, name, begin, (begin + 3, begin + 16)):
            destination.import_kv(name, block)
    source.cancel(name)
    destination.release(name)
    drained(destination)
    output = destination.output(name)
    destination.cancel(name)
    return output


def chosen_sampling(kind: str, seed: int) -> Sampling:
    """Greedy, or one that uses every rule."""
    return Sampling() if kind == "greedy" else Sampling(1.0, top_k=100, top_p=0.95, seed=seed)
