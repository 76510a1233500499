"""The search over the unpublished parameters: its points and their distances."""

from typing import Any

from experiments.reproduction.figures.catalogue import grids
from experiments.reproduction.figures.search import NUM_POINTS, points
from paper_figures.published import FIGURE_10, SYSTEMS
from paper_figures.results import Results
from paper_figures.search_figure import PARAMETERS, growths, scheduler_ratios, search_points

AT = {"rps": "1", "alpha": "0.5", "slots": "4", "pool_gb": "256", "cv": "8"}


def rows(factor: float = 1.0, swapped: bool = False) -> list[dict[str, Any]]:
    """Return figure 10 as published times a factor, or with the first two systems exchanged."""
    found = []
    for (model, dataset), values in FIGURE_10.items():
        order = (values[1], values[0], values[2]) if swapped else values
        for policy, value in zip(SYSTEMS, order, strict=True):
            labels = {**AT, "model": model, "dataset": dataset, "policy": policy}
            found.append({"labels": labels, "measured": {"mean_s": factor * value}})
    return found


def test_points_are_distinct_and_always_the_same() -> None:
    found = points()

    assert len({tuple(point.values()) for point in found}) == NUM_POINTS
    assert found == points()
    assert all(set(point) == set(PARAMETERS) for point in found)


def test_the_published_values_are_within_every_band_and_in_order() -> None:
    [point] = search_points(Results("search", {"runs": rows()}))

    assert point.parameters == AT
    assert (point.distance, point.num_within_25, point.num_within_2x) == (0.0, 18, 18)
    assert point.num_in_order == 6


def test_twice_the_latency_is_a_distance_of_one_and_outlier_seeds_do_not_count() -> None:
    runs = [*rows(2.0), *rows(2.0), *rows(100.0)]

    [point] = search_points(Results("search", {"runs": runs}))

    assert (point.distance, point.num_within_25, point.num_within_2x) == (1.0, 0, 18)


def test_a_column_with_equal_published_values_is_in_order_either_way() -> None:
    [point] = search_points(Results("search", {"runs": rows(swapped=True)}))

    equal = sum(max(values[:2]) <= 1.05 * min(values[:2]) for values in FIGURE_10.values())
    assert point.num_in_order == equal


def row(measured: dict[str, float], **labels: str) -> dict[str, Any]:
    return {"labels": {**AT, **labels}, "measured": measured}


def test_ratios_are_of_medians_over_the_seeds() -> None:
    runs = [
        row({"p99_s": seconds}, policy=policy)
        for policy, of_seeds in {
            "serverlessllm": (1.0, 2.0, 9.0),
            "shepherd": (3.0, 1.0, 8.0),
            "serverless": (4.0, 4.0, 0.1),
        }.items()
        for seconds in of_seeds
    ]

    assert scheduler_ratios(Results("search_fig8", {"runs": runs})) == [(AT, 1.5, 2.0)]


def test_growth_is_the_mean_at_the_highest_rate_over_that_at_the_lowest() -> None:
    means = {
        ("serverlessllm", "0.2"): 0.5,
        ("serverlessllm", "1.1"): 1.0,
        ("ray_serve_cache", "0.2"): 2.0,
        ("ray_serve_cache", "1.1"): 24.0,
    }
    runs = [
        row({"mean_s": mean_s}, policy=policy, rps=rps) for (policy, rps), mean_s in means.items()
    ]

    [(parameters, ours, baseline)] = growths(Results("search_fig11", {"runs": runs}))

    assert parameters == {name: value for name, value in AT.items() if name != "rps"}
    assert (ours, baseline) == (2.0, 12.0)


def test_a_cell_keeps_its_own_rate() -> None:
    [grid] = [grid for grid in grids() if grid.name == "search_fig11"]

    assert len(grid.cells) == NUM_POINTS * 2 * 2
    for cell in grid.cells:
        rates = [word for word in cell.overrides if word.startswith("workload.target_rps=")]
        assert rates == [f"workload.target_rps={cell.labels['rps']}"]
        assert set(PARAMETERS) <= set(cell.labels)
