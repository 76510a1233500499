"""The choice among replay, copy and hybrid, against the formulas with numbers put in."""

import pytest

from sllmcore.errors import UsageError
from sllmreal.migration.cost_model import MigrationCostModel, MigrationRates, Strategy

KV_BYTES = 131_072  # Llama-3.1-8B: 32 layers, 8 heads of 128, key and value, 2 bytes


def model(link_bytes_per_s: float, *, gain: float = 0.99, **fixed_s: float) -> MigrationCostModel:
    rates = MigrationRates(15_000.0, link_bytes_per_s, **{"replay_fixed_s": 0, **fixed_s})
    return MigrationCostModel(KV_BYTES, rates, hybrid_gain=gain)


def test_break_even_is_prefill_rate_times_bytes_per_token() -> None:
    assert model(1e9).break_even_bytes_per_s == pytest.approx(1.966e9, rel=1e-3)


@pytest.mark.parametrize(("link", "strategy"), [(1.25e9, Strategy.REPLAY), (3.1e9, Strategy.COPY)])
def test_a_link_on_either_side_of_break_even(link: float, strategy: Strategy) -> None:
    assert model(link, copy_fixed_s=0.0).choose(8192).strategy is strategy


def test_fixed_costs_put_the_break_even_at_a_length() -> None:
    """Copying gains 66.7 us - 13.1 us a token at 10 GB/s, and costs 50 ms more to begin."""
    costs = model(1e10, copy_fixed_s=0.05)

    assert costs.break_even_tokens == pytest.approx(0.05 / (1 / 15_000 - KV_BYTES / 1e10))
    assert costs.choose(900).strategy is Strategy.REPLAY
    assert costs.choose(1000).strategy is Strategy.COPY


def test_a_hybrid_ends_both_parts_together() -> None:
    costs = model(15_000 * KV_BYTES, gain=0.25, copy_fixed_s=0.0)

    choice = costs.choose(10_000)

    assert (choice.strategy, choice.replay_tokens) == (Strategy.HYBRID, 5000)
    assert choice.expected_s == pytest.approx(costs.replay_s(10_000) / 2)


def test_without_a_cache_to_copy_all_is_replayed() -> None:
    assert MigrationCostModel(0).choose(30_000).strategy is Strategy.REPLAY


def test_rates_are_learnt_from_migrations() -> None:
    costs = model(1e10, copy_fixed_s=0.0)
    for _ in range(60):
        costs.observe(Strategy.REPLAY, 2000, 0.5)
        costs.observe(Strategy.COPY, 2000, 1.0)

    assert costs.rates.prefill_tokens_per_s == pytest.approx(4000, rel=1e-3)
    assert costs.rates.link_bytes_per_s == pytest.approx(2000 * KV_BYTES, rel=1e-3)
    assert costs.choose(8192).strategy is Strategy.REPLAY


def test_a_migration_of_no_time_does_not_make_a_rate_infinite() -> None:
    costs = MigrationCostModel(KV_BYTES, smoothing=1.0)

    costs.observe(Strategy.REPLAY, 1000, 1e-9)

    assert costs.rates.prefill_tokens_per_s <= 7_000_000.0 * (1 + 1e-9)


def test_rates_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError):
        MigrationRates(prefill_tokens_per_s=0)
    with pytest.raises(UsageError):
        MigrationCostModel(-1)
