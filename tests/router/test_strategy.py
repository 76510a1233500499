"""The desk's choice of how a request moves: what it knows, and who taught it."""

from sllmcore.events import MigrationFailed, MigrationFinished
from sllmreal.engine.protocol import Capabilities
from sllmreal.router.cost_model import MigrationRates
from sllmreal.router.strategy import MigrationFacts, StrategyChooser

KV_BYTES = 100_000
LAYOUT = "bfloat16, 25 layers, 8 heads, 128"
MODEL = Capabilities("weights", 32768, 8, 32000, True, KV_BYTES, LAYOUT)
BELIEVED = MigrationRates(10_000.0, 1e10, 0.0, 0.0)  # a token: 100 us replayed, 10 us copied


def facts(
    context_tokens: int = 1000,
    destination: Capabilities = MODEL,
    places: tuple[str, str] = ("a", "b"),
) -> MigrationFacts:
    return MigrationFacts(context_tokens, MODEL, destination, *places)


def finished(request_id: str, resume_s: float, num_tokens: int = 1000) -> MigrationFinished:
    return MigrationFinished("m1", request_id, "i1", "i2", num_tokens, resume_s, 0.01)


def test_what_should_be_sooner_is_tried_and_given_up_when_it_is_not() -> None:
    chooser = StrategyChooser(BELIEVED)

    first = chooser.replay_tokens("r1", facts())
    chooser.ended(finished("r1", 2.0))
    second = chooser.replay_tokens("r2", facts())

    assert (first, second) == (0, None)


def test_a_slow_link_is_slow_between_its_ends_only() -> None:
    chooser = StrategyChooser(BELIEVED)
    chooser.replay_tokens("r1", facts())
    chooser.ended(finished("r1", 2.0))

    assert chooser.replay_tokens("r2", facts(places=("a", "b"))) is None
    assert chooser.replay_tokens("r3", facts(places=("a", "c"))) == 0


def test_the_time_to_a_first_token_teaches_what_replaying_takes() -> None:
    """At 1 us a token, replaying beats copying at 10 us."""
    chooser = StrategyChooser(BELIEVED)
    assert chooser.replay_tokens("r1", facts()) == 0

    for number, tokens in enumerate((500, 1000, 2000, 4000)):
        chooser.started(str(number), "weights", tokens, 10.0)
        chooser.answered(str(number), 10.0 + tokens * 1e-6)
        chooser.answered(str(number), 90.0)

    assert chooser.replay_tokens("r1", facts()) is None


def test_a_request_that_moves_before_its_first_token_teaches_nothing() -> None:
    chooser = StrategyChooser(BELIEVED)
    chooser.started("r1", "weights", 1000, 0.0)

    chooser.replay_tokens("r1", facts())
    chooser.answered("r1", 1e-6)

    assert chooser.replay_tokens("r1", facts()) == 0


def test_a_cache_that_does_not_fit_is_not_copied() -> None:
    other = Capabilities("weights", 32768, 8, 32000, True, 2 * KV_BYTES, "float32, 25 layers")
    opaque = Capabilities("weights", 32768, 8, 32000, False, 0, LAYOUT)

    for destination in (other, opaque):
        assert StrategyChooser(BELIEVED).replay_tokens("r", facts(destination=destination)) is None


def test_a_move_that_failed_teaches_nothing() -> None:
    chooser = StrategyChooser(BELIEVED)
    chooser.replay_tokens("r1", facts())

    chooser.ended(MigrationFailed("m1", "r1", "i2", "called off"))
    chooser.ended(finished("r1", 2.0))

    assert chooser.replay_tokens("r2", facts()) == 0
