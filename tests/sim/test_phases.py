"""The phases of cold starts, and their presets."""

from random import Random
from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sllmcore.errors import UsageError
from sllmsim.phases import (
    PRESETS,
    ColdStartPhases,
    Duration,
    Order,
    Phase,
    PhaseKind,
    PhaseModel,
    PhaseSpec,
    Resource,
    duration_with_p99,
    preset_named,
)


def test_a_start_is_before_plus_the_longer_of_overlapped_and_transfer_plus_after() -> None:
    phases = ColdStartPhases(
        (
            Phase(PhaseKind.PROVISION, Order.BEFORE, 1.0),
            Phase(PhaseKind.ENGINE_INIT, Order.OVERLAPPED, 2.0),
            Phase(PhaseKind.ENGINE_INIT, Order.OVERLAPPED, 3.0),
            Phase(PhaseKind.GRAPH, Order.AFTER, 4.0),
        )
    )

    assert (phases.before_s, phases.overlapped_s, phases.after_s) == (1.0, 5.0, 4.0)
    assert phases.startup_s(transfer_s=0.5) == 10.0
    assert phases.startup_s(transfer_s=7.0) == 12.0


def test_the_start_of_the_paper_is_its_transfer() -> None:
    assert preset_named("paper").draw(Random(1)) == ColdStartPhases()
    assert preset_named("paper").draw(Random(1)).startup_s(2.2) == 2.2


def test_a_container_has_the_three_phases_of_hydraserve_in_turn() -> None:
    # HydraServe: container 8.52 s, libraries 2.65 s, CUDA context 1.56 s.
    phases = preset_named("container").draw(Random(1))

    assert [phase.duration_s for phase in phases.by_phase] == [8.52, 2.65, 1.56]
    assert phases.startup_s(transfer_s=10.0) == pytest.approx(22.73)
    assert preset_named("container_overlapped").draw(Random(1)).startup_s(10.0) == pytest.approx(
        12.73
    )


def test_engine_init_hides_behind_the_transfer_of_a_process_start() -> None:
    phases = preset_named("process").median()

    assert phases.overlapped_s == pytest.approx(4.21)
    assert phases.after_s == pytest.approx(34.11)  # vLLM issue 20264: init engine took 34.11 s
    assert phases.startup_s(4.0) == phases.startup_s(1.0)


def test_presets_have_the_order_of_the_published_times() -> None:
    startup_s = {name: model.median().startup_s(2.0) for name, model in PRESETS.items()}

    assert startup_s["paper"] < startup_s["warm_engine"] < startup_s["snapshot"]
    assert startup_s["snapshot"] < startup_s["process"] < startup_s["weight_daemon"]


def test_the_same_seed_draws_the_same_start() -> None:
    model = preset_named("process")

    assert model.draw(Random(7)) == model.draw(Random(7))
    assert model.draw(Random(7)) != model.draw(Random(8))


@given(st.integers(), st.sampled_from(sorted(PRESETS)))
def test_no_draw_is_negative(seed: int, name: str) -> None:
    phases = preset_named(name).draw(Random(seed))

    assert all(phase.duration_s >= 0 for phase in phases.by_phase)
    assert phases.startup_s(0.0) >= 0


def test_draws_have_the_given_median_and_p99() -> None:
    rng = Random(3)
    duration = duration_with_p99(10.0, 20.0)

    percentiles = quantiles((duration.draw_s(rng) for _ in range(40_000)), n=100)

    assert percentiles[49] == pytest.approx(10.0, rel=0.02)
    assert percentiles[98] == pytest.approx(20.0, rel=0.04)


def test_a_draw_takes_one_number_and_a_constant_none() -> None:
    drawn, reference = Random(5), Random(5)

    Duration(1.0).draw_s(drawn)
    Duration(1.0, sigma=0.5).draw_s(drawn)
    reference.random()

    assert drawn.random() == reference.random()


def test_phases_have_the_resources_that_they_keep_busy() -> None:
    assert Phase(PhaseKind.GRAPH, Order.AFTER, 1.0).resource is Resource.GPU
    assert Phase(PhaseKind.PROVISION, Order.BEFORE, 1.0).resource is Resource.HOST


def test_every_preset_names_the_source_of_its_numbers() -> None:
    for model in PRESETS.values():
        assert all("[" in spec.source and "]" in spec.source for spec in model.phases)


def test_wrong_phases_are_refused() -> None:
    with pytest.raises(UsageError, match="copy moves bytes"):
        PhaseModel("x", (PhaseSpec(PhaseKind.COPY, Order.BEFORE, Duration(1.0), "none [M]"),))
    with pytest.raises(UsageError, match="median_s"):
        Duration(-1.0)
    with pytest.raises(UsageError, match="sigma"):
        Duration(1.0, sigma=-0.1)
    with pytest.raises(UsageError, match="p99_s"):
        duration_with_p99(2.0, 1.0)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'cold'; known: paper, process, container, .*snapshot"):
        preset_named("cold")
