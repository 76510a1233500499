"""The contract of `Engine`, on every implementation."""

from collections.abc import Callable

import pytest

from experiments.campaigns.engine.driving import (
    copied_cache,
    drained,
    step_until_output,
    whole_output,
)
from experiments.campaigns.engine.makers import VOCABULARY, EngineMaker
from sllmcore.errors import UsageError
from sllmreal.engine.errors import (
    BadStateError,
    BadTokenError,
    ContextTooLongError,
    NoSlotError,
    UnknownSequenceError,
)
from sllmreal.engine.protocol import (
    Engine,
    FinishReason,
    KVBlock,
    OutputToken,
    Progress,
    Sampling,
    SequenceSpec,
)

PROMPT = (7, 300, 21, 5, 900, 41, 16, 2, 55, 68, 12, 490, 3)


def spec(name: str = "r", limit: int = 6, prompt: tuple[int, ...] = PROMPT) -> SequenceSpec:
    return SequenceSpec(name, prompt, limit)


def test_a_sequence_generates_up_to_its_limit_and_stays_until_cancelled(
    maker: EngineMaker,
) -> None:
    engine = maker()

    engine.start(spec(limit=3))
    tokens = drained(engine)

    output = engine.output("r")
    assert tokens == [
        OutputToken("r", 0, output[0]),
        OutputToken("r", 1, output[1]),
        OutputToken("r", 2, output[2], FinishReason.LENGTH),
    ]
    assert engine.step() == []
    assert engine.progress("r") == Progress(
        num_known=16, num_cached=15, num_output=3, held=False, finish=FinishReason.LENGTH
    )
    engine.cancel("r")
    with pytest.raises(UnknownSequenceError):
        engine.progress("r")


def test_a_stop_token_ends_a_sequence_and_is_given_out(maker: EngineMaker) -> None:
    output = whole_output(maker(), spec(limit=6))
    engine = maker()

    engine.start(SequenceSpec("r", PROMPT, 6, stop_tokens=frozenset({output[3]})))
    tokens = drained(engine)

    assert [token.token for token in tokens] == list(output[: output.index(output[3]) + 1])
    assert tokens[-1].finish is FinishReason.STOP


def test_a_full_context_ends_a_sequence(any_model: EngineMaker) -> None:
    engine = any_model(context_tokens=16)

    engine.start(spec(limit=100))
    tokens = drained(engine)

    assert [token.finish for token in tokens] == [None, None, FinishReason.LENGTH]


def test_a_prompt_is_computed_in_chunks_while_others_get_their_tokens(maker: EngineMaker) -> None:
    engine = maker(chunk_tokens=5)
    engine.start(spec("short", 20, PROMPT[:2]))
    engine.step()

    engine.start(spec("long", 20))
    steps = [engine.step() for _ in range(4)]

    assert [[token.request_id for token in step] for step in steps] == [
        ["short"],
        ["short"],
        ["short", "long"],
        ["short", "long"],
    ]


@pytest.mark.parametrize("chunk_tokens", [1, 2, 12, 13, 200])
def test_chunks_and_company_do_not_change_what_is_generated(
    maker: EngineMaker, chunk_tokens: int
) -> None:
    specs = [spec(str(length), 9, PROMPT[:length]) for length in (1, 4, 13, 9)]
    alone = [whole_output(maker(), one) for one in specs]

    engine = maker(chunk_tokens=chunk_tokens)
    for one in specs:
        engine.start(one)
        engine.step()
    drained(engine)

    assert [engine.output(one.request_id) for one in specs] == alone


def test_a_held_sequence_is_computed_but_generates_nothing(maker: EngineMaker) -> None:
    engine = maker()

    engine.start(spec(), held=True)
    tokens = drained(engine)

    assert tokens == []
    assert engine.progress("r") == Progress(
        num_known=13, num_cached=12, num_output=0, held=True, finish=None
    )


def test_a_held_sequence_computes_its_part_and_the_rest_when_it_is_released(
    maker: EngineMaker,
) -> None:
    """Seeded: a limit that a release does not lift; one that only ends a chunk."""
    expected = whole_output(maker(), spec(limit=8))
    engine = maker(chunk_tokens=4)

    engine.start(spec(limit=8), held=True, compute_until=6)
    drained(engine)
    part = engine.progress("r")
    engine.release("r")
    drained(engine)

    assert part == Progress(num_known=13, num_cached=6, num_output=0, held=True, finish=None)
    assert engine.output("r") == expected


def test_a_part_longer_than_the_known_tokens_is_no_limit(any_model: EngineMaker) -> None:
    engine = any_model()

    engine.start(spec(), held=True, compute_until=50)
    drained(engine)

    assert engine.progress("r").num_cached == 12


def test_holding_stops_a_sequence_where_it_is_and_releasing_continues_it(
    maker: EngineMaker,
) -> None:
    uninterrupted = whole_output(maker(), spec(limit=8))
    engine = maker()
    engine.start(spec(limit=8))
    step_until_output(engine, "r", 3)

    held = engine.hold("r")
    idle = drained(engine)
    engine.release("r")
    drained(engine)

    assert (held.num_output, held.held, idle) == (3, True, [])
    assert engine.output("r") == uninterrupted


def test_sequences_continue_while_others_are_held_in_any_row(maker: EngineMaker) -> None:
    specs = [spec(str(length), 12, PROMPT[:length]) for length in (3, 8, 13, 5)]
    alone = [whole_output(maker(), one) for one in specs]
    engine = maker()
    for one in specs:
        engine.start(one)
    for _ in range(6):
        engine.step()

    for held in ("3", "13", "8", "5"):
        engine.hold(held)
        engine.step()
        engine.step()
        engine.release(held)
    drained(engine)

    assert [engine.output(one.request_id) for one in specs] == alone


def test_a_new_sequence_in_a_freed_slot_is_not_touched_by_the_old_one(maker: EngineMaker) -> None:
    later = spec("later", 10, PROMPT[2:])
    expected = whole_output(maker(), later)
    engine = maker(num_slots=3)
    for name, length in (("a", 4), ("b", 13), ("c", 9)):
        engine.start(spec(name, 40, PROMPT[:length]))
    for _ in range(6):
        engine.step()

    engine.cancel("a")
    engine.start(later)
    for _ in range(4):
        engine.step()
    engine.cancel("c")
    drained(engine)

    assert engine.output("later") == expected
    assert engine.output("b") == whole_output(maker(), spec("b", 40))


def test_extended_tokens_count_as_generated_ones(maker: EngineMaker) -> None:
    output = whole_output(maker(), spec(limit=8))
    engine = maker()
    engine.start(SequenceSpec("r", PROMPT, 8, output=output[:2]), held=True)
    engine.step()

    engine.extend("r", output[2:4])
    engine.extend("r", ())
    engine.extend("r", output[4:5])
    engine.release("r")
    tokens = drained(engine)

    assert [token.index for token in tokens] == [5, 6, 7]
    assert engine.output("r") == output


@pytest.mark.parametrize("num_output", [1, 5])
def test_a_release_computes_the_tail_and_gives_a_token_in_one_step(
    maker: EngineMaker, num_output: int
) -> None:
    output = whole_output(maker(), spec(limit=8))
    engine = maker()
    engine.start(spec(limit=8), held=True)
    drained(engine)
    engine.extend("r", output[:num_output])

    engine.release("r")

    assert engine.step() == [OutputToken("r", num_output, output[num_output])]


def test_output_that_has_ended_elsewhere_generates_no_more(any_model: EngineMaker) -> None:
    output = whole_output(any_model(), spec(limit=4))
    engine = any_model()
    engine.start(SequenceSpec("whole", PROMPT, 4, output=output))
    engine.start(spec("extended", 4), held=True)

    engine.extend("extended", output)
    engine.release("extended")

    assert drained(engine) == []
    assert engine.progress("whole").finish is FinishReason.LENGTH
    assert engine.progress("extended").finish is FinishReason.LENGTH


def test_slots_are_taken_by_held_and_finished_sequences_too(any_model: EngineMaker) -> None:
    engine = any_model(num_slots=2)
    engine.start(spec("held"), held=True)
    engine.start(spec("finished", 1))
    drained(engine)

    with pytest.raises(NoSlotError):
        engine.start(spec("late"))
    engine.cancel("finished")
    engine.start(spec("late"))

    assert engine.statistics().num_sequences == 2


def test_statistics_count_what_was_computed(maker: EngineMaker) -> None:
    engine = maker()
    engine.start(spec(limit=4))
    drained(engine)

    statistics = engine.statistics()

    assert (statistics.num_steps, statistics.num_sequences) == (5, 1)
    assert (statistics.prefilled_tokens, statistics.generated_tokens) == (13, 4)
    assert statistics.kv_bytes == 16 * engine.capabilities.kv_bytes_per_token
    assert 0 <= statistics.model_s <= statistics.step_s


def test_closing_forgets_everything(maker: EngineMaker) -> None:
    engine = maker()
    engine.start(spec())

    engine.close()

    assert not engine.has_work
    assert engine.statistics().num_sequences == 0
    with pytest.raises(UsageError):
        engine.start(spec())


BAD_SPECS: list[tuple[SequenceSpec, type[Exception]]] = [
    (SequenceSpec("x", (1, VOCABULARY), 4), BadTokenError),
    (SequenceSpec("x", (-1,), 4), BadTokenError),
    (SequenceSpec("x", (1,), 4, output=(VOCABULARY,)), BadTokenError),
    (SequenceSpec("x", (1,) * 32, 4), ContextTooLongError),
    (SequenceSpec("x", (1,) * 30, 40, output=(1,) * 3), ContextTooLongError),
    (SequenceSpec("x", (1,), 2, output=(1, 1, 1)), BadStateError),
    (SequenceSpec("x", (1,), 9, stop_tokens=frozenset({5}), output=(5, 1)), BadStateError),
    (SequenceSpec("busy", (1,), 4), UsageError),
]


def observed(engine: Engine) -> tuple[object, ...]:
    statistics = engine.statistics()
    counts = (statistics.num_sequences, statistics.num_steps, statistics.kv_bytes)
    return counts, engine.progress("busy"), engine.output("busy"), engine.has_work


@pytest.mark.parametrize(("bad", "error"), BAD_SPECS)
def test_a_start_that_is_refused_changes_nothing(
    any_model: EngineMaker, bad: SequenceSpec, error: type[Exception]
) -> None:
    expected = whole_output(any_model(context_tokens=32), spec("busy", 10))
    engine = any_model(num_slots=2, context_tokens=32)
    engine.start(spec("busy", 10))
    step_until_output(engine, "busy", 2)
    before = observed(engine)

    with pytest.raises(error):
        engine.start(bad)

    assert observed(engine) == before
    drained(engine)
    assert engine.output("busy") == expected


REFUSED: list[tuple[str, Callable[[Engine], object], type[Exception]]] = [
    ("extend one that runs", lambda e: e.extend("runs", (1,)), BadStateError),
    ("extend beyond the limit", lambda e: e.extend("busy", (1,) * 9), BadStateError),
    ("extend beyond the vocabulary", lambda e: e.extend("busy", (1, -2)), BadTokenError),
    ("extend beyond a stop", lambda e: e.extend("busy", (999, 1)), BadStateError),
    ("extend an unknown one", lambda e: e.extend("x", (1,)), UnknownSequenceError),
    ("hold an unknown one", lambda e: e.hold("x"), UnknownSequenceError),
    ("release an unknown one", lambda e: e.release("x"), UnknownSequenceError),
    ("cancel an unknown one", lambda e: e.cancel("x"), UnknownSequenceError),
    ("read an unknown one", lambda e: e.output("x"), UnknownSequenceError),
    ("export of an unknown one", lambda e: e.export_kv("x", 0, 1), UnknownSequenceError),
    ("export nothing", lambda e: e.export_kv("busy", 3, 3), BadStateError),
    ("export what is not cached", lambda e: e.export_kv("busy", 0, 14), BadStateError),
    ("export from before the start", lambda e: e.export_kv("busy", -1, 4), BadStateError),
]


@pytest.mark.parametrize(
    ("call", "error"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_a_call_that_is_refused_changes_nothing(
    any_model: EngineMaker, call: Callable[[Engine], object], error: type[Exception]
) -> None:
    engine = any_model()
    engine.start(SequenceSpec("busy", PROMPT, 6, stop_tokens=frozenset({999})), held=True)
    engine.start(spec("runs"))
    for _ in range(4):
        engine.step()
    engine.extend("busy", (11,))
    before = observed(engine)

    with pytest.raises(error):
        call(engine)

    assert observed(engine) == before
    assert engine.output("busy") == (11,)


def with_layers(block: KVBlock, *layers: memoryview) -> KVBlock:
    return KVBlock(block.begin, block.end, layers)


BAD_BLOCKS: list[tuple[str, Callable[[KVBlock], KVBlock]]] = [
    (
        "leaves a gap",
        lambda b: KVBlock(1, b.end, tuple(one[: len(one) // 12 * 11] for one in b.layers)),
    ),
    ("begins before the start", lambda b: KVBlock(-1, b.end - 1, b.layers)),
    ("ends beyond what is known", lambda b: KVBlock(2, b.end + 2, b.layers)),
    ("is empty", lambda b: KVBlock(0, 0, tuple(one[:0] for one in b.layers))),
    ("lacks a layer", lambda b: with_layers(b, *b.layers[1:])),
    ("has a layer too many", lambda b: with_layers(b, *b.layers, b.layers[0])),
    ("has a short layer", lambda b: with_layers(b, b.layers[0], b.layers[1][:-1])),
]


@pytest.mark.parametrize("spoil", [case[1] for case in BAD_BLOCKS], ids=[c[0] for c in BAD_BLOCKS])
def test_a_block_that_does_not_fit_is_refused_and_changes_nothing(
    any_model: EngineMaker, spoil: Callable[[KVBlock], KVBlock]
) -> None:
    source, destination = any_model(), any_model()
    source.start(spec("busy"), held=True)
    drained(source)
    block = source.export_kv("busy", 0, 12)
    destination.start(spec("busy"), held=True)
    before = observed(destination)

    with pytest.raises(BadStateError):
        destination.import_kv("busy", spoil(block))

    assert observed(destination) == before
    destination.import_kv("busy", block)
    assert destination.progress("busy").num_cached == 12


def test_a_block_is_imported_into_a_held_sequence_only(maker: EngineMaker) -> None:
    engine = maker()
    engine.start(spec("a"))
    engine.start(spec("b"))
    step_until_output(engine, "a", 1)
    block = engine.export_kv("a", 0, 4)

    with pytest.raises(BadStateError):
        engine.import_kv("b", block)


def test_an_exported_block_outlives_its_sequence(maker: EngineMaker) -> None:
    output = whole_output(maker(), spec(limit=8))
    source, destination = maker(num_slots=1), maker()
    source.start(spec(limit=8))
    step_until_output(source, "r", 3)
    blocks = copied_cache(source, "r", 0)
    source.cancel("r")
    whole_output(source, spec("other", 8, PROMPT[::-1]))

    destination.start(SequenceSpec("r", PROMPT, 8, output=output[:3]), held=True)
    for block in blocks:
        destination.import_kv("r", block)
    destination.release("r")
    drained(destination)

    assert destination.output("r") == output
    assert destination.statistics().prefilled_tokens == 0


def test_a_block_replaces_what_was_computed_in_its_place(maker: EngineMaker) -> None:
    output = whole_output(maker(), spec(limit=8))
    source, destination = maker(), maker()
    source.start(spec(limit=8))
    step_until_output(source, "r", 5)
    destination.start(SequenceSpec("r", PROMPT, 8, output=output[:5]), held=True)
    drained(destination)

    for block in copied_cache(source, "r", 0, (3, 14)):
        destination.import_kv("r", block)
        assert destination.progress("r").num_cached == block.end
    destination.release("r")
    drained(destination)

    assert destination.output("r") == output


def test_a_block_of_all_that_is_known_can_be_continued(maker: EngineMaker) -> None:
    output = whole_output(maker(), spec(limit=8))
    source, destination = maker(), maker()
    source.start(spec(limit=8))
    step_until_output(source, "r", 3)
    block = source.export_kv("r", 0, 15)
    destination.start(SequenceSpec("r", PROMPT, 8, output=output[:2]), held=True)

    destination.import_kv("r", block)
    cached = destination.progress("r")
    destination.release("r")
    drained(destination)

    assert cached == Progress(num_known=15, num_cached=15, num_output=2, held=True, finish=None)
    assert destination.output("r") == output


def test_seeds_make_sampling_repeatable(maker: EngineMaker) -> None:
    def sampled(seed: int) -> tuple[int, ...]:
        one = SequenceSpec("r", PROMPT, 12, Sampling(1.0, seed=seed))
        return whole_output(maker(), one)

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(frequency_penalty=1.0, presence_penalty=0.5),
        Sampling(repetition_penalty=1.5, min_tokens=9),
        Sampling(0.8, seed=4, min_p=0.05, repetition_penalty=1.3, frequency_penalty=0.4),
        Sampling(logit_bias=((11, 3.0), (5, -100.0))),
    ],
)
def test_penalties_are_rebuilt_where_a_sequence_continues(
    maker: EngineMaker, sampling: Sampling
) -> None:
    """Fails if counts of tokens stay behind with the engine that generated them."""
    one = SequenceSpec("r", PROMPT, 12, sampling, stop_tokens=frozenset({3}))
    output = whole_output(maker(), one)

    for num_output in range(1, len(output)):
        continued = SequenceSpec(
            request_id="r",
            prompt=PROMPT,
            max_output_tokens=12,
            sampling=sampling,
            stop_tokens=frozenset({3}),
            output=output[:num_output],
        )
        assert whole_output(maker(), continued) == output
