"""The engine without a model: its pace, and the dependence of its tokens."""

import pytest

from experiments.campaigns.engine.driving import whole_output
from sllmcore.errors import UsageError
from sllmreal.engine.protocol import Sampling, SequenceSpec
from sllmreal.engine.timed import Pace, TimedOptions, timed_engine

GREEDY = Sampling()


def spec(
    prompt: tuple[int, ...] = (1, 2, 3), sampling: Sampling = GREEDY, limit: int = 6
) -> SequenceSpec:
    return SequenceSpec("r", prompt, limit, sampling)


def test_the_same_tokens_come_from_any_engine_of_the_model() -> None:
    assert whole_output(timed_engine(), spec()) == (20352, 13409, 20194, 3350, 19580, 22049)


@pytest.mark.parametrize("prompt", [(1, 2, 4), (0, 2, 3), (2, 1, 3), (1, 2), (1, 2, 3, 3)])
def test_any_other_prompt_gives_other_tokens(prompt: tuple[int, ...]) -> None:
    output = whole_output(timed_engine(), spec())
    other = whole_output(timed_engine(), spec(prompt))

    assert all(token != same for token, same in zip(output, other, strict=True))


def test_the_seed_matters_to_sampling_and_not_to_greedy() -> None:
    def tokens(temperature: float, seed: int) -> tuple[int, ...]:
        return whole_output(timed_engine(), spec(sampling=Sampling(temperature, seed=seed)))

    assert tokens(0, 1) == tokens(0, 2)
    assert tokens(1, 1) == tokens(1, 1)
    assert set(tokens(1, 1)).isdisjoint(tokens(1, 2))


def test_another_model_gives_other_tokens() -> None:
    other = timed_engine(TimedOptions(model="other"))

    assert set(whole_output(timed_engine(), spec())).isdisjoint(whole_output(other, spec()))


def test_a_step_sleeps_as_long_as_a_model_would_have_computed() -> None:
    slept: list[float] = []
    pace = Pace(prefill_token_s=1.0, decode_step_s=100.0, decode_sequence_s=10.0)
    engine = timed_engine(TimedOptions(prefill_chunk_tokens=4, pace=pace), sleep=slept.append)

    engine.start(spec((1, 2, 3, 4, 5, 6), limit=3))
    for _ in range(2):
        engine.step()
    engine.start(SequenceSpec("s", (1,), 1))
    for _ in range(2):
        engine.step()

    assert slept == [4.0, 2.0, 120.0, 110.0]
    assert engine.statistics().model_s == 236.0


def test_a_pace_is_not_negative() -> None:
    with pytest.raises(UsageError):
        Pace(decode_step_s=-1)
