import pytest
from hypothesis import given
from hypothesis import strategies as st

from traces.assignment import by_first_call, by_function, by_name, by_popularity
from traces.errors import TraceError
from traces.mapping import blocks, model_of_function, stripe
from traces.popularity import Popularity, shares
from traces.report import TraceReport


def test_stripe_assigns_functions_in_turn() -> None:
    assert [stripe(i, 3) for i in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_blocks_keeps_neighbours_together() -> None:
    assert [blocks(i, 3, 7) for i in range(7)] == [0, 0, 0, 1, 1, 2, 2]


@given(st.integers(1, 40), st.integers(1, 200))
def test_both_mappings_give_every_model_its_fair_number_of_functions(
    num_models: int, num_functions: int
) -> None:
    for places in (
        [stripe(i, num_models) for i in range(num_functions)],
        [blocks(i, num_models, num_functions) for i in range(num_functions)],
    ):
        sizes = [places.count(model) for model in range(num_models)]
        assert max(sizes) - min(sizes) <= 1


def test_functions_numbered_by_first_call_are_striped_like_known_functions() -> None:
    functions, models = ["f", "g", "h"], ["a", "b"]
    met = by_first_call(models, TraceReport())

    calls = [met(function) for function in ("f", "g", "f", "h", "g")]

    known = by_function(functions, models, "stripe", TraceReport())
    assert calls == [known(function) for function in ("f", "g", "f", "h", "g")]
    assert calls == ["a", "b", "a", "a", "b"]


def test_no_models_is_an_error() -> None:
    with pytest.raises(TraceError, match="no models"):
        model_of_function(["f"], [], "stripe")


def test_a_model_that_is_not_deployed_is_an_error() -> None:
    with pytest.raises(TraceError, match="model 'c', which is not among"):
        by_name(["a", "b"])("c")


def test_models_drawn_by_popularity_follow_the_shares() -> None:
    models = [f"m{i}" for i in range(5)]
    popularity = Popularity("power_law", alpha=1.0)
    assign = by_popularity(popularity, models, seed=3)

    calls = [assign("") for _ in range(20_000)]

    expected = shares(popularity, 5, seed=3)
    assert [calls.count(model) / 20_000 for model in models] == pytest.approx(expected, abs=0.02)
