"""The choice of a strategy: its inputs, and the migrations and prefills that it learns from."""

from sllmcore.events import MigrationFailed, MigrationFinished
from sllmcore.migration_cost_model import MigrationRates
from sllmcore.migration_strategy import MigrationFacts, StrategyChooser

KV_BYTES = 100_000
RATES = MigrationRates(10_000.0, 1e10, 0.0, 0.0)  # a token: 100 us replayed, 10 us copied


def facts(destination: str = "b", kv_bytes_per_token: int = KV_BYTES) -> MigrationFacts:
    return MigrationFacts(
        model="weights",
        kv_bytes_per_token=kv_bytes_per_token,
        context_tokens=1000,
        source_server="a",
        destination_server=destination,
    )


def replayed(chooser: StrategyChooser, request_id: str, what: MigrationFacts) -> int | None:
    """Begin a migration. Return the tokens to replay: 0 for a copy, None for all."""
    return chooser.begin_migration(request_id, what).replay_tokens


def finished(request_id: str, resume_s: float) -> MigrationFinished:
    return MigrationFinished(
        move_id="m1",
        request_id=request_id,
        source_id="i1",
        destination_id="i2",
        num_tokens=1000,
        resume_s=resume_s,
        pause_s=0.01,
    )


def test_the_faster_strategy_is_tried_and_given_up_when_it_is_slow() -> None:
    chooser = StrategyChooser(RATES)

    first = replayed(chooser, "r1", facts())
    chooser.end_migration(finished("r1", 2.0))
    second = replayed(chooser, "r2", facts())

    assert (first, second) == (0, None)


def test_a_slow_link_is_slow_between_its_ends_only() -> None:
    chooser = StrategyChooser(RATES)
    replayed(chooser, "r1", facts())
    chooser.end_migration(finished("r1", 2.0))

    assert replayed(chooser, "r2", facts("b")) is None
    assert replayed(chooser, "r3", facts("c")) == 0


def test_the_time_to_a_first_token_trains_the_cost_of_replaying() -> None:
    """At 1 us a token, replaying beats copying at 10 us."""
    chooser = StrategyChooser(RATES)
    assert replayed(chooser, "r1", facts()) == 0

    for number, tokens in enumerate((500, 1000, 2000, 4000)):
        chooser.begin_prefill(str(number), "weights", tokens, 10.0)
        chooser.end_prefill(str(number), 10.0 + tokens * 1e-6)
        chooser.end_prefill(str(number), 90.0)

    assert replayed(chooser, "r1", facts()) is None


def test_a_request_that_migrates_before_its_first_token_trains_nothing() -> None:
    chooser = StrategyChooser(RATES)
    chooser.begin_prefill("r1", "weights", 1000, 0.0)

    replayed(chooser, "r1", facts())
    chooser.end_prefill("r1", 1e-6)

    assert replayed(chooser, "r1", facts()) == 0


def test_a_cache_that_cannot_be_copied_is_replayed() -> None:
    assert replayed(StrategyChooser(RATES), "r", facts(kv_bytes_per_token=0)) is None


def test_a_migration_that_failed_trains_nothing() -> None:
    chooser = StrategyChooser(RATES)
    replayed(chooser, "r1", facts())

    chooser.end_migration(MigrationFailed("m1", "r1", "i2", "called off"))
    chooser.end_migration(finished("r1", 2.0))

    assert replayed(chooser, "r2", facts()) == 0


def test_a_request_that_has_ended_trains_nothing() -> None:
    chooser = StrategyChooser(RATES)
    chooser.begin_prefill("r1", "weights", 1000, 0.0)
    replayed(chooser, "r2", facts())

    chooser.forget("r1")
    chooser.forget("r2")
    chooser.end_prefill("r1", 1e-6)
    chooser.end_migration(finished("r2", 2.0))

    assert replayed(chooser, "r3", facts()) == 0
