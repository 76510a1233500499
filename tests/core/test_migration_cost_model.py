"""The choice among replay, copy and hybrid, against the formulas with numbers put in."""

import pytest

from sllmcore.errors import UsageError
from sllmcore.migration_cost_model import MigrationCostModel, MigrationRates, Strategy

KV_BYTES = 131_072  # Llama-3.1-8B: 32 layers, 8 heads of 128, key and value, 2 bytes


def model(link_bytes_per_s: float, *, gain: float = 0.99, **fixed_s: float) -> MigrationCostModel:
    rates = MigrationRates(15_000.0, link_bytes_per_s, **{"replay_fixed_s": 0, **fixed_s})
    return MigrationCostModel(KV_BYTES, rates, hybrid_gain=gain)


def test_break_even_is_prefill_rate_times_bytes_per_token() -> None:
    bandwidth = model(1e9, copy_fixed_s=0.0).break_even_bytes_per_s(8192)

    assert bandwidth == pytest.approx(1.966e9, rel=1e-3)


@pytest.mark.parametrize(("link", "strategy"), [(1.25e9, Strategy.REPLAY), (3.1e9, Strategy.COPY)])
def test_a_link_on_either_side_of_break_even(link: float, strategy: Strategy) -> None:
    assert model(link, copy_fixed_s=0.0).choose(8192).strategy is strategy


def test_fixed_costs_put_the_break_even_at_a_length() -> None:
    """Copying gains 66.7 us - 13.1 us a token at 10 GB/s, and costs 50 ms more to begin."""
    costs = model(1e10, copy_fixed_s=0.05)

    wanted = 0.05 / (1 / 15_000 - KV_BYTES / 1e10)
    assert costs.break_even_tokens == pytest.approx(wanted, rel=2e-3)
    assert costs.choose(900).strategy is Strategy.REPLAY
    assert costs.choose(1000).strategy is Strategy.COPY


def test_a_hybrid_ends_both_parts_together() -> None:
    costs = model(15_000 * KV_BYTES, gain=0.25, copy_fixed_s=0.0)

    choice = costs.choose(10_000)

    assert (choice.strategy, choice.replay_tokens) == (Strategy.HYBRID, 5000)
    assert choice.expected_s == pytest.approx(costs.replay_s(10_000) / 2)


def test_without_a_cache_to_copy_all_is_replayed() -> None:
    assert MigrationCostModel(0).choose(30_000).strategy is Strategy.REPLAY


def test_times_are_learnt_from_migrations() -> None:
    costs = model(1e10, copy_fixed_s=0.0)
    for _ in range(60):
        costs.observe(Strategy.REPLAY, 2000, 0.5)
        costs.observe(Strategy.COPY, 2000, 1.0)

    assert costs.replay_s(2000) == pytest.approx(0.5, rel=0.02)
    assert costs.copy_s(2000) == pytest.approx(1.0, rel=0.02)
    assert costs.choose(8192).strategy is Strategy.REPLAY


def test_one_migration_says_more_than_what_was_believed() -> None:
    costs = model(1e10, copy_fixed_s=0.0)

    costs.observe(Strategy.COPY, 2000, 1.0)

    assert costs.copy_s(2000) == pytest.approx(1.0, rel=0.15)
    assert costs.choose(2000).strategy is Strategy.REPLAY


def test_attention_over_a_long_context_brings_a_break_even() -> None:
    """Replaying takes n / 10,000 + n^2 / 10^8 seconds, copying 0.13 ms a token: n* = 3,000."""
    costs = model(1e9, copy_fixed_s=0.0)
    for tokens in (500, 1000, 2000, 4000, 8000, 16000) * 20:
        costs.observe(Strategy.REPLAY, tokens, tokens / 1e4 + tokens**2 / 1e8)
        costs.observe(Strategy.COPY, tokens, tokens * 1.3e-4)

    assert costs.break_even_tokens == pytest.approx(3000, rel=0.03)
    assert costs.choose(2000).strategy is Strategy.REPLAY
    assert costs.choose(5000).strategy is Strategy.COPY


def test_a_hybrid_that_gains_less_than_it_should_is_given_up() -> None:
    costs = model(15_000 * KV_BYTES, gain=0.25, copy_fixed_s=0.0)
    for _ in range(10):
        costs.observe(Strategy.HYBRID, 10_000, costs.replay_s(10_000))

    assert costs.choose(10_000).strategy is not Strategy.HYBRID


def test_a_migration_of_no_time_does_not_break_anything() -> None:
    costs = MigrationCostModel(KV_BYTES, smoothing=1.0)

    costs.observe(Strategy.REPLAY, 1000, 1e-9)

    assert 0 <= costs.replay_s(1000) < costs.copy_s(1000)
    assert costs.choose(1000).strategy is Strategy.REPLAY


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError):
        MigrationRates(prefill_tokens_per_s=0)
    with pytest.raises(UsageError):
        MigrationCostModel(-1)
