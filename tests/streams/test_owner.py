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
from sllmreal.streams import messages
from sllmreal.streams.messages import Epoch, MigrationParams
from sllmreal.streams.owner import StreamOwner
from sllmreal.streams.owner_io import (
    DeliverTokens,
    MigrationSpec,
    OwnerOptions,
    OwnerOutput,
    ReportEvent,
    SendToHost,
)

SPEC = SequenceSpec("r", (1, 2, 3), 10, stop_tokens=frozenset({99}))
PARAMS = MigrationParams(KEY, "timed", KV_LAYOUT)
MIGRATION = MigrationSpec(
    move_id="m1", source_id="a", destination_id="b", address="local:b", params=PARAMS
)
ONE, TWO, THREE = Epoch(1), Epoch(2), Epoch(3)


def running() -> StreamOwner:
    """Return the owner of a request that runs on instance a, with output 10, 11, 12 (at 3.0)."""
    owner = StreamOwner(SPEC, OwnerOptions(poll_s=2.0, resend_s=1.0))
    owner.start("a", 0.0)
    for index in range(3):
        owner.receive("a", messages.Tokens("r", ONE, index, (10 + index,)), 1.0 + index)
    owner.take_outputs()
    return owner


def migrating() -> StreamOwner:
    """Return the owner of a request that migrates from a to b since 3.5; b is prepared."""
    owner = running()
    owner.migrate(MIGRATION, 3.5)
    owner.receive("b", messages.StreamPrepared("r", TWO), 3.6)
    owner.take_outputs()
    return owner


def delivered(outputs: list[OwnerOutput]) -> list[int]:
    return [token for one in outputs if isinstance(one, DeliverTokens) for token in one.tokens]


def events(outputs: list[OwnerOutput]) -> list[object]:
    return [one.event for one in outputs if isinstance(one, ReportEvent)]


def test_a_request_starts_with_epoch_one() -> None:
    owner = StreamOwner(SPEC)

    owner.start("a", 0.0)

    assert owner.take_outputs() == [
        SendToHost("a", messages.StartStream(ONE, messages.PackedSpec.of(SPEC)))
    ]


def test_repeated_tokens_are_delivered_once() -> None:
    owner = running()

    owner.receive("a", messages.Tokens("r", ONE, 1, (11, 12, 13)), 4.0)

    assert owner.take_outputs() == [DeliverTokens(3, (13,), None)]


def test_records_of_log_probabilities_are_delivered_with_their_tokens() -> None:
    """Fails if a repeated token's record is delivered again."""
    owner = running()
    message = messages.Tokens("r", ONE, 1, (11, 12, 13), logprobs=b"aaaabbbbcccc")

    owner.receive("a", message, 4.0)

    assert owner.take_outputs() == [DeliverTokens(3, (13,), None, b"cccc")]


def test_missing_tokens_are_polled_for_and_the_rest_is_not_delivered() -> None:
    owner = running()

    owner.receive("a", messages.Tokens("r", ONE, 4, (14,)), 4.0)

    assert owner.take_outputs() == [SendToHost("a", messages.PollStream("r", ONE, 3))]


def test_an_owner_polls_its_host_while_tokens_arrive() -> None:
    owner = running()

    owner.advance(3.0)

    assert owner.take_outputs() == [SendToHost("a", messages.PollStream("r", ONE, 3))]
    assert owner.next_wakeup_s == 5.0


def test_a_finish_ends_the_request_and_the_stream() -> None:
    owner = running()

    owner.receive(
        "a",
        messages.Tokens(request_id="r", epoch=ONE, first=3, tokens=(99,), finish=FinishReason.STOP),
        4.0,
    )

    assert owner.take_outputs() == [
        DeliverTokens(3, (99,), FinishReason.STOP),
        SendToHost("a", messages.StopStream("r", ONE)),
        ReportEvent(InferenceFinished("r", "a", 4, 1.0)),
    ]
    assert not owner.settled
    owner.receive("a", messages.StreamStopped("r", ONE, 4), 4.1)
    assert owner.settled


def test_a_migration_commits_when_the_destination_is_ready_and_finishes_with_its_first_token() -> (
    None
):
    owner = migrating()

    owner.receive(
        "b",
        messages.StreamReady(
            request_id="r", epoch=TWO, num_output=3, num_recomputed=6, num_bytes=12
        ),
        4.0,
    )
    committed = owner.take_outputs()
    owner.receive("b", messages.Tokens("r", TWO, 3, (13,)), 4.25)
    first = owner.take_outputs()

    assert committed == [
        SendToHost("b", messages.CommitStream("r", TWO, 3)),
        SendToHost("a", messages.StopStream("r", ONE)),
    ]
    finished = MigrationFinished(
        move_id="m1",
        request_id="r",
        source_id="a",
        destination_id="b",
        num_tokens=6,
        resume_s=0.5,
        pause_s=1.25,
    )
    assert first == [ReportEvent(finished, num_recomputed=6), DeliverTokens(3, (13,), None)]


def test_tokens_of_the_source_are_ignored_after_the_commit() -> None:
    owner = migrating()
    owner.receive(
        "b",
        messages.StreamReady(
            request_id="r", epoch=TWO, num_output=4, num_recomputed=7, num_bytes=16
        ),
        4.0,
    )
    owner.take_outputs()

    owner.receive("a", messages.Tokens("r", ONE, 3, (666,)), 4.1)
    owner.receive("b", messages.Tokens("r", TWO, 3, (13, 14)), 4.2)

    assert delivered(owner.take_outputs()) == [13, 14]


def test_tokens_of_the_destination_are_ignored_before_the_commit() -> None:
    owner = migrating()

    owner.receive("b", messages.Tokens("r", TWO, 3, (13,)), 4.0)

    assert owner.take_outputs() == []


def test_a_destination_behind_the_log_is_not_committed() -> None:
    owner = migrating()
    owner.receive("a", messages.Tokens("r", ONE, 3, (13,)), 3.7)
    owner.take_outputs()

    owner.receive(
        "b",
        messages.StreamReady(
            request_id="r", epoch=TWO, num_output=3, num_recomputed=6, num_bytes=12
        ),
        4.0,
    )

    assert owner.take_outputs() == [
        SendToHost("a", messages.CancelMigration("r", ONE, TWO)),
        SendToHost("b", messages.StopStream("r", TWO)),
    ]
    assert owner.instance_id == "a"


def test_a_failed_migration_is_reported_when_the_destination_has_dropped_the_stream() -> None:
    owner = migrating()

    owner.receive("a", messages.StreamNotMoved("r", ONE, TWO, "the link broke"), 4.0)
    before = events(owner.take_outputs())
    owner.advance(5.0)
    repeated = owner.take_outputs()
    owner.receive("b", messages.StreamStopped("r", TWO), 5.1)

    assert before == []
    assert SendToHost("b", messages.StopStream("r", TWO)) in repeated
    assert events(owner.take_outputs()) == [MigrationFailed("m1", "r", "b", "the link broke")]


def test_a_finish_at_the_source_is_reported_before_the_failed_migration() -> None:
    owner = migrating()

    owner.receive(
        "a",
        messages.Tokens(request_id="r", epoch=ONE, first=3, tokens=(99,), finish=FinishReason.STOP),
        4.0,
    )
    owner.receive("b", messages.StreamStopped("r", TWO), 4.1)

    assert events(owner.take_outputs()) == [
        InferenceFinished("r", "a", 4, 1.0),
        MigrationFailed("m1", "r", "b", "the source finished"),
    ]


def test_a_stop_at_the_source_of_a_committed_migration_is_not_answered() -> None:
    owner = migrating()
    owner.receive(
        "b",
        messages.StreamReady(
            request_id="r", epoch=TWO, num_output=3, num_recomputed=6, num_bytes=12
        ),
        4.0,
    )
    owner.take_outputs()

    owner.stop("a", 4.1)

    assert owner.take_outputs() == []


def test_a_stop_is_answered_when_the_host_has_dropped_the_stream() -> None:
    owner = running()

    owner.stop("a", 4.0)
    sent = owner.take_outputs()
    owner.receive("a", messages.StreamStopped("r", ONE, 5), 4.1)

    assert sent == [SendToHost("a", messages.StopStream("r", ONE))]
    assert events(owner.take_outputs()) == [InferenceStopped("r", "a", lost_tokens=2)]


def test_after_a_crash_the_request_continues_from_the_log_on_another_instance() -> None:
    owner = running()
    owner.lose_instance("a", 4.0)

    owner.start("c", 5.0)

    known = SequenceSpec("r", (1, 2, 3), 10, stop_tokens=frozenset({99}), output=(10, 11, 12))
    assert owner.take_outputs() == [
        SendToHost("c", messages.StartStream(TWO, messages.PackedSpec.of(known)))
    ]


def test_a_finish_that_was_lost_with_its_instance_follows_from_the_log() -> None:
    owner = StreamOwner(SPEC)
    owner.start("a", 0.0)
    owner.receive("a", messages.Tokens("r", ONE, 0, (7, 99)), 1.0)
    owner.lose_instance("a", 2.0)
    owner.take_outputs()

    owner.start("b", 3.0)

    assert owner.take_outputs() == [
        DeliverTokens(2, (), FinishReason.STOP),
        ReportEvent(InferenceFinished("r", "b", 2, 1.0)),
    ]


def test_a_stream_that_its_host_does_not_know_is_started_again_there() -> None:
    owner = running()

    owner.receive("a", messages.StreamUnknown("r", ONE), 4.0)

    (sent,) = owner.take_outputs()
    assert isinstance(sent, SendToHost)
    assert isinstance(sent.message, messages.StartStream)
    assert (sent.instance_id, sent.message.epoch) == ("a", TWO)


def test_a_migration_finishes_before_the_loss_of_its_committed_source_is_reported() -> None:
    owner = migrating()
    owner.receive(
        "b",
        messages.StreamReady(
            request_id="r", epoch=TWO, num_output=3, num_recomputed=6, num_bytes=12
        ),
        4.0,
    )
    owner.take_outputs()

    owner.lose_instance("a", 4.5)

    finished = MigrationFinished(
        move_id="m1",
        request_id="r",
        source_id="a",
        destination_id="b",
        num_tokens=6,
        resume_s=0.5,
        pause_s=1.5,
    )
    assert owner.take_outputs() == [ReportEvent(finished, num_recomputed=6)]
    assert owner.instance_id == "b"


def test_a_request_stays_at_the_source_when_the_destination_is_lost_before_the_commit() -> None:
    owner = migrating()

    owner.lose_instance("b", 4.0)

    assert owner.take_outputs() == [SendToHost("a", messages.CancelMigration("r", ONE, TWO))]
    assert owner.instance_id == "a"


def test_a_request_fails_when_an_engine_refuses_it() -> None:
    owner = StreamOwner(SPEC)
    owner.start("a", 0.0)

    owner.receive("a", messages.StreamRefused("r", ONE, "NoSlotError", "full"), 1.0)

    assert events(owner.take_outputs()) == [InferenceFailed("r", "a", "NoSlotError: full")]


def test_a_migration_fails_at_once_when_the_request_runs_on_another_instance() -> None:
    owner = running()

    owner.migrate(
        MigrationSpec(
            move_id="m1", source_id="z", destination_id="b", address="local:b", params=PARAMS
        ),
        4.0,
    )

    reason = "the request does not run on z"
    assert events(owner.take_outputs()) == [MigrationFailed("m1", "r", "b", reason)]


def test_an_epoch_is_never_issued_twice() -> None:
    owner = migrating()
    owner.abort_migration("m1", 4.0)
    owner.take_outputs()

    owner.migrate(
        MigrationSpec(
            move_id="m2", source_id="a", destination_id="b", address="local:b", params=PARAMS
        ),
        5.0,
    )

    (sent,) = owner.take_outputs()
    assert isinstance(sent, SendToHost)
    assert isinstance(sent.message, messages.PrepareStream)
    assert sent.message.epoch == THREE
