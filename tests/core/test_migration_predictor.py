"""Migration time: `a (t_in + t_out) + b`, with `t_out` estimated from the running time."""

from random import Random

import pytest

from sllmcore.cluster.request_state import RequestState
from sllmcore.errors import UsageError
from sllmcore.migration_predictor import (
    LinearMigrationPredictor,
    MigrationProfile,
    QuadraticMigrationPredictor,
)
from sllmcore.types import Request

PROFILE = MigrationProfile(per_token_s=0.001, fixed_s=0.5, output_token_s=0.25)


def running(input_tokens: int, since_s: float = 0.0, model: str = "A") -> RequestState:
    request_state = RequestState(Request("r1", model, 0.0, input_tokens), 1)
    request_state.running_since_s = since_s
    return request_state


def test_the_profile_is_used_until_the_first_measurement() -> None:
    predictor = LinearMigrationPredictor(PROFILE)

    # 100 tokens in, 10 s at a quarter of a second each: 40 out
    assert predictor.resume_s(running(100), now_s=10.0) == pytest.approx(0.5 + 0.001 * 140)


def test_a_model_may_have_a_profile_of_its_own() -> None:
    own = MigrationProfile(per_token_s=0.002, fixed_s=1.0, output_token_s=0.5)
    predictor = LinearMigrationPredictor(PROFILE, {"B": own})

    assert predictor.resume_s(running(100, model="B"), 10.0) == pytest.approx(1.0 + 0.002 * 120)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_and_b_are_learnt_within_ten_per_cent(noise: float) -> None:
    rng, predictor = Random(2), LinearMigrationPredictor(PROFILE, smoothing=0.02)
    a, b = 0.0003, 0.08
    for _ in range(400):
        tokens = rng.randint(50, 2000)
        measured_s = (a * tokens + b) * (1 + noise * rng.uniform(-1, 1))
        predictor.observe_resume("A", tokens, measured_s)

    few = predictor.resume_s(running(0), 0.0)
    many = predictor.resume_s(running(2000), 0.0)

    assert few == pytest.approx(b, rel=0.1)
    assert (many - few) / 2000 == pytest.approx(a, rel=0.1)


def test_one_measurement_does_not_tilt_the_line_wildly() -> None:
    predictor = LinearMigrationPredictor(PROFILE)

    predictor.observe_resume("A", 100, 1.2)

    assert 0.5 < predictor.resume_s(running(100), 0.0) < 1.2
    assert predictor.resume_s(running(2000), 0.0) == pytest.approx(2.5, rel=0.25)


def test_many_migrations_of_one_length_predict_that_length() -> None:
    predictor = LinearMigrationPredictor(PROFILE, smoothing=0.5)
    for _ in range(200):
        predictor.observe_resume("A", 300, 2.0)

    assert predictor.resume_s(running(300), 0.0) == pytest.approx(2.0, rel=0.01)


def test_a_prediction_is_never_negative() -> None:
    predictor = LinearMigrationPredictor(PROFILE, smoothing=0.5)
    for tokens, resume_s in [(1000, 0.01), (2000, 3.0)] * 20:
        predictor.observe_resume("A", tokens, resume_s)

    assert predictor.resume_s(running(0), 0.0) == 0.0


def test_the_time_per_token_is_learnt_from_finished_requests() -> None:
    predictor = LinearMigrationPredictor(PROFILE, smoothing=0.5)
    predictor.observe_decode("A", 11, 1.0)  # 0.1 s a token
    predictor.observe_decode("A", 11, 3.0)  # 0.3: on average 0.2

    assert predictor.resume_s(running(0), 10.0) == pytest.approx(0.5 + 0.001 * 50)


def test_a_request_of_one_token_teaches_no_time_per_token() -> None:
    predictor = LinearMigrationPredictor(PROFILE)

    predictor.observe_decode("A", 1, 5.0)

    assert predictor.resume_s(running(0), 10.0) == pytest.approx(0.5 + 0.001 * 40)


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_smoothing_lies_between_nothing_and_all(smoothing: float) -> None:
    with pytest.raises(UsageError, match="smoothing"):
        LinearMigrationPredictor(PROFILE, smoothing=smoothing)


def test_a_profile_is_checked() -> None:
    with pytest.raises(UsageError, match="per_token_s"):
        MigrationProfile(per_token_s=-1.0)
    with pytest.raises(UsageError, match="output_token_s"):
        MigrationProfile(output_token_s=0.0)


def test_the_quadratic_predictor_fits_short_and_long_contexts() -> None:
    """Attention is quadratic: a line that fits the long migrations misses the short ones."""
    rng, predictor = Random(3), QuadraticMigrationPredictor(PROFILE)
    for _ in range(400):
        tokens = rng.choice((128, 512, 2048, 8192, 32768))
        measured_s = 0.01 + 2e-4 * tokens + 3e-8 * tokens**2
        predictor.observe_resume("A", tokens, measured_s)

    for tokens in (128, 1000, 4000, 32768):
        expected_s = 0.01 + 2e-4 * tokens + 3e-8 * tokens**2
        assert predictor.resume_s(running(tokens), 0.0) == pytest.approx(expected_s, rel=0.02)


def test_the_quadratic_predictor_also_estimates_the_output_from_the_time() -> None:
    predictor = QuadraticMigrationPredictor(PROFILE)

    assert predictor.resume_s(running(100), now_s=10.0) == pytest.approx(0.5 + 0.001 * 140)
    predictor.observe_decode("A", output_tokens=101, decode_s=20.0)
    assert predictor.resume_s(running(100), now_s=10.0) == pytest.approx(0.5 + 0.001 * 150)


def test_slow_short_migrations_raise_the_predictions_for_long_ones() -> None:
    """Seeded bug: a pace that does not change, which keeps the long ones at 1.0 of usual."""
    rng, predictor = Random(3), QuadraticMigrationPredictor(PROFILE)
    for _ in range(200):
        tokens = rng.choice((128, 512, 2048, 8192))
        predictor.observe_resume("A", tokens, 0.01 + 2e-4 * tokens)

    for _ in range(4):
        predictor.observe_resume("A", 128, 1.5 * (0.01 + 2e-4 * 128))

    usual_s = 0.01 + 2e-4 * 8192
    assert 1.2 * usual_s < predictor.resume_s(running(8192), 0.0) < 1.5 * usual_s
