"""The owner of a stream, one message at a time."""

from experiments.campaigns.migration.samples import KEY, KV_LAYOUT
from sllmcore.events import (
    InferenceFailed,
    InferenceFinished,
    InferenceStopped,
    MigrationFailed,
    MigrationFinished,
)
from sllmreal.engine.protocol import FinishReason, SequenceSpec
from sllmreal.streams import messages as wire
from sllmreal.streams.messages import Epoch, MigrationParams
from sllmreal.streams.owner import StreamOwner
from sllmreal.streams.owner_io import (
    DeliverTokens,
    MigrationOrder,
    Output,
    OwnerOptions,
    ReportEvent,
    SendToHost,
)

SPEC = SequenceSpec("r", (1, 2, 3), 10, stop_tokens=frozenset({99}))
TERMS = MigrationParams(KEY, "timed", KV_LAYOUT)
ORDER = MigrationOrder("m1", "a", "b", "local:b", TERMS)
ONE, TWO, THREE = Epoch(1), Epoch(2), Epoch(3)


def running() -> StreamOwner:
    """On instance a, with output 10, 11, 12, the last at 3.0."""
    owner = StreamOwner(SPEC, OwnerOptions(poll_s=2.0, resend_s=1.0))
    owner.infer("a", 0.0)
    for index in range(3):
        owner.receive("a", wire.Tokens("r", ONE, index, (10 + index,)), 1.0 + index)
    owner.take_outputs()
    return owner


def moving() -> StreamOwner:
    """Resumed at 3.5; source and destination are at it."""
    owner = running()
    owner.resume(ORDER, 3.5)
    owner.receive("b", wire.StreamPrepared("r", TWO), 3.6)
    owner.take_outputs()
    return owner


def delivered(outputs: list[Output]) -> list[int]:
    return [token for one in outputs if isinstance(one, DeliverTokens) for token in one.tokens]


def events(outputs: list[Output]) -> list[object]:
    return [one.event for one in outputs if isinstance(one, ReportEvent)]


def test_a_request_starts_with_its_first_epoch() -> None:
    owner = StreamOwner(SPEC)

    owner.infer("a", 0.0)

    assert owner.take_outputs() == [
        SendToHost("a", wire.StartStream(ONE, wire.PackedSpec.of(SPEC)))
    ]


def test_tokens_that_repeat_are_delivered_once() -> None:
    owner = running()

    owner.receive("a", wire.Tokens("r", ONE, 1, (11, 12, 13)), 4.0)

    assert owner.take_outputs() == [DeliverTokens(3, (13,), None)]


def test_a_gap_is_asked_for_and_delivers_nothing() -> None:
    owner = running()

    owner.receive("a", wire.Tokens("r", ONE, 4, (14,)), 4.0)

    assert owner.take_outputs() == [SendToHost("a", wire.PollStream("r", ONE, 3))]


def test_a_host_hears_of_its_owner_while_tokens_flow() -> None:
    owner = running()

    owner.wakeup(3.0)

    assert owner.take_outputs() == [SendToHost("a", wire.PollStream("r", ONE, 3))]
    assert owner.next_wakeup_s == 5.0


def test_a_finish_ends_the_request_and_the_stream() -> None:
    owner = running()

    owner.receive("a", wire.Tokens("r", ONE, 3, (99,), FinishReason.STOP), 4.0)

    assert owner.take_outputs() == [
        DeliverTokens(3, (99,), FinishReason.STOP),
        SendToHost("a", wire.StopStream("r", ONE)),
        ReportEvent(InferenceFinished("r", "a", 4, 1.0)),
    ]
    assert not owner.settled
    owner.receive("a", wire.StreamStopped("r", ONE, 4), 4.1)
    assert owner.settled


def test_a_move_commits_when_the_destination_is_ready_and_finishes_with_its_first_token() -> None:
    owner = moving()

    owner.receive("b", wire.StreamReady("r", TWO, 3, 6, 12), 4.0)
    committed = owner.take_outputs()
    owner.receive("b", wire.Tokens("r", TWO, 3, (13,)), 4.25)
    first = owner.take_outputs()

    assert committed == [
        SendToHost("b", wire.CommitStream("r", TWO, 3)),
        SendToHost("a", wire.StopStream("r", ONE)),
    ]
    finished = MigrationFinished("m1", "r", "a", "b", 6, resume_s=0.5, pause_s=1.25)
    assert first == [ReportEvent(finished, num_recomputed=6), DeliverTokens(3, (13,), None)]


def test_tokens_of_the_source_count_for_nothing_after_the_commit() -> None:
    owner = moving()
    owner.receive("b", wire.StreamReady("r", TWO, 4, 7, 16), 4.0)
    owner.take_outputs()

    owner.receive("a", wire.Tokens("r", ONE, 3, (666,)), 4.1)
    owner.receive("b", wire.Tokens("r", TWO, 3, (13, 14)), 4.2)

    assert delivered(owner.take_outputs()) == [13, 14]


def test_tokens_of_the_destination_count_for_nothing_before_the_commit() -> None:
    owner = moving()

    owner.receive("b", wire.Tokens("r", TWO, 3, (13,)), 4.0)

    assert owner.take_outputs() == []


def test_a_destination_behind_the_log_is_not_committed() -> None:
    owner = moving()
    owner.receive("a", wire.Tokens("r", ONE, 3, (13,)), 3.7)
    owner.take_outputs()

    owner.receive("b", wire.StreamReady("r", TWO, 3, 6, 12), 4.0)

    assert owner.take_outputs() == [
        SendToHost("a", wire.CancelMigration("r", ONE, TWO)),
        SendToHost("b", wire.StopStream("r", TWO)),
    ]
    assert owner.instance_id == "a"


def test_a_failed_move_is_told_when_the_destination_is_clean() -> None:
    owner = moving()

    owner.receive("a", wire.StreamNotMoved("r", ONE, TWO, "the link broke"), 4.0)
    before = events(owner.take_outputs())
    owner.wakeup(5.0)
    repeated = owner.take_outputs()
    owner.receive("b", wire.StreamStopped("r", TWO), 5.1)

    assert before == []
    assert SendToHost("b", wire.StopStream("r", TWO)) in repeated
    assert events(owner.take_outputs()) == [MigrationFailed("m1", "r", "b", "the link broke")]


def test_a_source_that_finishes_first_ends_the_request_before_the_move() -> None:
    owner = moving()

    owner.receive("a", wire.Tokens("r", ONE, 3, (99,), FinishReason.STOP), 4.0)
    owner.receive("b", wire.StreamStopped("r", TWO), 4.1)

    told = events(owner.take_outputs())
    assert told == [
        InferenceFinished("r", "a", 4, 1.0),
        MigrationFailed("m1", "r", "b", "the source finished"),
    ]


def test_a_stop_at_the_source_of_a_committed_move_is_not_answered() -> None:
    owner = moving()
    owner.receive("b", wire.StreamReady("r", TWO, 3, 6, 12), 4.0)
    owner.take_outputs()

    owner.stop("a", 4.1)

    assert owner.take_outputs() == []


def test_a_stop_is_answered_when_the_stream_is_gone() -> None:
    owner = running()

    owner.stop("a", 4.0)
    asked = owner.take_outputs()
    owner.receive("a", wire.StreamStopped("r", ONE, 5), 4.1)

    assert asked == [SendToHost("a", wire.StopStream("r", ONE))]
    assert events(owner.take_outputs()) == [InferenceStopped("r", "a", lost_tokens=2)]


def test_after_a_crash_the_request_goes_on_elsewhere_from_the_log() -> None:
    owner = running()
    owner.lost("a", 4.0)

    owner.infer("c", 5.0)

    known = SequenceSpec("r", (1, 2, 3), 10, stop_tokens=frozenset({99}), output=(10, 11, 12))
    assert owner.take_outputs() == [
        SendToHost("c", wire.StartStream(TWO, wire.PackedSpec.of(known)))
    ]


def test_a_finish_that_was_lost_with_its_instance_is_seen_in_the_log() -> None:
    owner = StreamOwner(SPEC)
    owner.infer("a", 0.0)
    owner.receive("a", wire.Tokens("r", ONE, 0, (7, 99)), 1.0)
    owner.lost("a", 2.0)
    owner.take_outputs()

    owner.infer("b", 3.0)

    assert owner.take_outputs() == [
        DeliverTokens(2, (), FinishReason.STOP),
        ReportEvent(InferenceFinished("r", "b", 2, 1.0)),
    ]


def test_a_stream_that_its_host_forgot_starts_again_there() -> None:
    owner = running()

    owner.receive("a", wire.StreamUnknown("r", ONE), 4.0)

    (sent,) = owner.take_outputs()
    assert isinstance(sent, SendToHost)
    assert isinstance(sent.message, wire.StartStream)
    assert (sent.instance_id, sent.message.epoch) == ("a", TWO)


def test_a_source_lost_after_the_commit_is_told_after_the_move() -> None:
    owner = moving()
    owner.receive("b", wire.StreamReady("r", TWO, 3, 6, 12), 4.0)
    owner.take_outputs()

    owner.lost("a", 4.5)

    finished = MigrationFinished("m1", "r", "a", "b", 6, resume_s=0.5, pause_s=1.5)
    assert owner.take_outputs() == [ReportEvent(finished, num_recomputed=6)]
    assert owner.instance_id == "b"


def test_a_destination_lost_before_the_commit_leaves_the_source() -> None:
    owner = moving()

    owner.lost("b", 4.0)

    assert owner.take_outputs() == [SendToHost("a", wire.CancelMigration("r", ONE, TWO))]
    assert owner.instance_id == "a"


def test_a_request_that_an_engine_refuses_has_failed() -> None:
    owner = StreamOwner(SPEC)
    owner.infer("a", 0.0)

    owner.receive("a", wire.StreamRefused("r", ONE, "NoSlotError", "full"), 1.0)

    assert events(owner.take_outputs()) == [InferenceFailed("r", "a", "NoSlotError: full")]


def test_a_resume_of_a_request_that_is_elsewhere_fails_at_once() -> None:
    owner = running()

    owner.resume(MigrationOrder("m1", "z", "b", "local:b", TERMS), 4.0)

    reason = "the request does not run on z"
    assert events(owner.take_outputs()) == [MigrationFailed("m1", "r", "b", reason)]


def test_epochs_are_never_given_twice() -> None:
    owner = moving()
    owner.abort("m1", 4.0)
    owner.take_outputs()

    owner.resume(MigrationOrder("m2", "a", "b", "local:b", TERMS), 5.0)

    (sent,) = owner.take_outputs()
    assert isinstance(sent, SendToHost)
    assert isinstance(sent.message, wire.PrepareStream)
    assert sent.message.epoch == THREE
