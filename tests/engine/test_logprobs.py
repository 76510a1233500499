"""Log probabilities: their values, and their way beside the tokens through engines."""

from pathlib import Path

import pytest
import torch

from experiments.campaigns.engine.driving import drained, step_until_output, whole_output
from experiments.campaigns.engine.makers import EngineMaker, TimedMaker, TransformersMaker
from sllmcore.errors import UsageError
from sllmreal.engine.logprobs import LogprobRecord, split_records, unpacked_record
from sllmreal.engine.protocol import Engine, Sampling, SequenceSpec
from sllmreal.engine.samples import write_sample
from sllmreal.migration.messages import Position
from sllmreal.migration.sequence import ArrivingSequence, DepartingSequence
from sllmreal.streams import messages
from sllmreal.streams.host_core import HostCore
from sllmreal.streams.host_io import SendToOwner
from sllmreal.streams.messages import Epoch

PROMPT = (7, 300, 21, 5, 900, 41, 16, 2, 55, 68, 12, 490, 3)


def records(engine: Engine) -> list[LogprobRecord]:
    """Return the records of sequence "r"."""
    raw = engine.logprobs("r")
    return [unpacked_record(one) for one in split_records(raw, len(engine.output("r")))]


@pytest.mark.parametrize("sampling", [Sampling(logprobs=3), Sampling(1.3, seed=2, logprobs=3)])
def test_log_probabilities_are_those_of_transformers(tmp_path: Path, sampling: Sampling) -> None:
    maker = TransformersMaker(write_sample(tmp_path, "llama-tiny"), "llama-tiny")
    engine = maker()
    engine.start(SequenceSpec("r", PROMPT, 8, sampling))
    drained(engine)

    output = engine.output("r")
    with torch.no_grad():
        logits = maker.model(torch.tensor([[*PROMPT, *output]])).logits[0, len(PROMPT) - 1 : -1]
    expected = logits.double().log_softmax(-1)

    for place, record in enumerate(records(engine)):
        assert record.chosen.token == output[place]
        assert abs(record.chosen.logprob - float(expected[place, output[place]])) < 1e-4
        likeliest = expected[place].topk(3)
        assert [one.token for one in record.likeliest] == likeliest.indices.tolist()
        got = torch.tensor([one.logprob for one in record.likeliest])
        assert torch.allclose(got.double(), likeliest.values, atol=1e-4)


def test_records_move_with_the_tokens(maker: EngineMaker) -> None:
    """Fails if the destination has only the records of its own tokens."""
    one = SequenceSpec("r", PROMPT, 9, Sampling(logprobs=2))
    alone, source, destination = maker(), maker(), maker()
    alone.start(one)
    drained(alone)
    source.start(one)
    step_until_output(source, "r", 5)
    source.hold("r")

    arriving = ArrivingSequence(destination, one, None)
    departing = DepartingSequence(source, "r", None)
    at = Position(0, 0)
    while (delta := departing.delta(at, departing.position, 60)) is not None:
        arriving.absorb(delta)
        at = Position(arriving.num_output, 0)
    arriving.release()
    drained(destination)

    assert destination.output("r") == alone.output("r")
    moved, whole = records(destination), records(alone)
    assert [one.chosen.token for one in moved] == list(destination.output("r"))
    for ours, theirs in zip(moved, whole, strict=True):
        assert ours.chosen.logprob == pytest.approx(theirs.chosen.logprob, abs=1e-4)


def test_records_of_a_wrong_size_change_nothing(maker: EngineMaker) -> None:
    engine = maker()
    engine.start(SequenceSpec("r", PROMPT, 9, Sampling(logprobs=2)), held=True)

    with pytest.raises(UsageError, match="have 24 bytes"):
        engine.extend("r", (5,), bytes(23))

    assert engine.output("r") == ()
    engine.extend("r", (5,))
    assert len(engine.logprobs("r")) == 24


def test_a_sequence_without_the_option_has_no_records(maker: EngineMaker) -> None:
    engine = maker()
    engine.start(SequenceSpec("r", PROMPT, 3))

    assert {token.logprobs for token in drained(engine)} == {b""}
    assert engine.logprobs("r") == b""


def test_forced_tokens_are_scored_and_change_nothing_after_them(maker: EngineMaker) -> None:
    """Fails if a stop token ends the output, or if the seed counts from the forced tokens."""
    sampling = Sampling(1.0, seed=5, min_tokens=2, frequency_penalty=0.5)
    stops = frozenset({PROMPT[4]})
    plain = whole_output(maker(), SequenceSpec("r", PROMPT, 6, sampling, stops))

    forced = Sampling(
        1.0, seed=5, min_tokens=2, frequency_penalty=0.5, logprobs=1, forced=PROMPT[1:]
    )
    engine = maker()
    engine.start(SequenceSpec("r", PROMPT[:1], 6 + len(PROMPT) - 1, forced, stops))
    drained(engine)

    output = engine.output("r")
    assert output[: len(PROMPT) - 1] == PROMPT[1:]
    assert [one.chosen.token for one in records(engine)] == list(output)
    if not isinstance(maker, TimedMaker):  # its tokens depend on the number of those before
        assert output[len(PROMPT) - 1 :] == plain


def test_a_host_sends_records_with_tokens_that_are_sent_again() -> None:
    """Fails if a poll is answered by the tokens alone."""
    core = HostCore(TimedMaker()())
    spec = SequenceSpec("r", PROMPT, 3, Sampling(logprobs=1))
    core.receive(messages.StartStream(Epoch(1), messages.PackedSpec.of(spec)), 0.0)
    while core.has_work:
        core.receive_tokens(core.engine.step(), 0.0)
    core.receive(messages.PollStream("r", Epoch(1), 1), 0.0)
    sent = [one.message for one in core.take_outputs() if isinstance(one, SendToOwner)]

    *single, again = [one for one in sent if isinstance(one, messages.Tokens)]
    assert [len(one.logprobs) for one in single] == [16] * 3
    assert again.first == 1
    assert again.logprobs == b"".join(one.logprobs for one in single[1:])
