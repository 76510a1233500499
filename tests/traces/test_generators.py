import math
from collections import Counter
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest

from traces.bursts import BurstLaw, burst_arrivals
from traces.errors import TraceError
from traces.function_cvs import PublishedCvs
from traces.generators import generated_rows
from traces.modulation import Modulation, OrnsteinUhlenbeck, week_profile
from traces.popularity import Popularity
from traces.renewal import gamma_arrivals, scaled_times
from traces.rows import TraceRow
from traces.seeding import generator
from traces.spec import WorkloadSpec

MODELS = ("a", "b", "c")


def spec(**fields: Any) -> WorkloadSpec:
    return WorkloadSpec(**{"kind": "gamma", "target_rps": 2.0, "duration_s": 500.0, **fields})


def times_of(rows: list[TraceRow], model: str) -> list[float]:
    return [row.at_s for row in rows if row.source == model]


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 4.0, 8.0])
def test_a_gamma_process_has_its_rate_from_time_0_on(cv: float) -> None:
    # 600 short windows: a process that began with an arrival would show (cv^2 - 1) / 2 more.
    counts = [
        len(list(scaled_times(gamma_arrivals(cv, generator(seed, "g")), 0.5, 60.0)))
        for seed in range(600)
    ]

    deviation = float(np.std(counts)) / math.sqrt(len(counts))
    assert np.mean(counts) == pytest.approx(30.0, abs=4 * max(deviation, 0.02))


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0, 4.0])
def test_gamma_gaps_have_their_cv(cv: float) -> None:
    times = list(islice(scaled_times(gamma_arrivals(cv, generator(1, "g")), 3.0, 1e9), 200_000))

    gaps = np.diff(times)
    assert np.mean(gaps) == pytest.approx(1 / 3.0, rel=0.05)
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(cv, rel=0.05)


def test_a_cv_of_zero_is_a_beat_with_a_random_phase() -> None:
    times = list(scaled_times(gamma_arrivals(0.0, generator(1, "g")), 0.5, 20.0))

    assert np.diff(times) == pytest.approx([2.0] * 9)
    assert 0 < times[0] < 2.0


@pytest.mark.parametrize("rate", [0.05, 0.5, 2.5664, 20.0])
def test_bursts_come_at_the_rate_asked_for(rate: float) -> None:
    span_s = 40_000.0 / rate
    counts = []
    for seed in range(8):
        num = 0
        for chunk in burst_arrivals(rate, generator(seed, "b")):
            num += int(np.sum(chunk < span_s))
            if chunk[-1] >= span_s:
                break
        counts.append(num)

    assert np.mean(counts) == pytest.approx(40_000, rel=0.1)  # 3 standard errors


def test_the_burst_law_knows_its_own_means() -> None:
    law, rng = BurstLaw(), generator(3, "law")

    sizes = np.ceil(np.minimum(rng.lognormal(law.size_mu, law.size_sigma, 200_000), law.max_size))
    slowness = np.exp(law.speed_sigma * rng.standard_normal(200_000) - law.speed_sigma**2 / 2)
    gaps = np.minimum(
        law.gap_scale_s * slowness * rng.weibull(law.gap_shape, 200_000), law.max_gap_s
    )

    assert law.mean_size == pytest.approx(np.mean(sizes), rel=0.02)
    assert law.mean_gap_s == pytest.approx(np.mean(gaps), rel=0.02)


def test_modulation_moves_arrivals_and_keeps_their_number() -> None:
    modulation = Modulation(fluctuation=OrnsteinUhlenbeck(0.5, 300.0))

    counts = [
        len(
            list(
                modulation.times(
                    gamma_arrivals(1.0, generator(seed, "g")), 0.1, 3000.0, generator(seed, "m")
                )
            )
        )
        for seed in range(200)
    ]

    error = float(np.std(counts)) / math.sqrt(len(counts))
    assert np.mean(counts) == pytest.approx(300.0, abs=4 * error)
    assert np.var(counts) > 2 * np.mean(counts)  # a Poisson process has 1


def test_the_week_profile_has_mean_one_and_a_quiet_weekend() -> None:
    hours = np.arange(1800.0, 168 * 3600.0, 3600.0)

    code, conv = week_profile("code").at(hours), week_profile("conv").at(hours)

    assert np.mean(code) == pytest.approx(1.0)
    assert np.mean(code[120:]) / np.mean(code[:120]) == pytest.approx(0.32, abs=0.01)
    assert np.mean(conv[120:]) / np.mean(conv[:120]) == pytest.approx(0.57, abs=0.01)
    assert code[:24].max() / code[:24].min() == pytest.approx(9.7, abs=0.1)


def test_a_diurnal_workload_is_busier_in_the_afternoon() -> None:
    day = spec(
        kind="azure_like", pattern="conv", diurnal="code", duration_s=86_400.0, target_rps=0.2
    )

    hours = Counter(int(row.at_s // 3600) for row in generated_rows(day, ("a",), 1))

    busy, quiet = sum(hours[h] for h in range(16, 20)), sum(hours[h] for h in range(6, 10))
    assert busy > 4 * quiet


def test_the_start_hour_shifts_the_day() -> None:
    fields = {"kind": "azure_like", "diurnal": "code", "duration_s": 7200.0, "cv": 1.0}

    at_night = len(list(generated_rows(spec(start_hour=7.0, **fields), ("a",), 1)))
    by_day = len(list(generated_rows(spec(start_hour=17.0, **fields), ("a",), 1)))

    assert by_day > 4 * at_night


def test_adding_a_model_leaves_the_arrivals_of_the_others_as_they_were() -> None:
    uniform = Popularity("uniform")

    two = list(generated_rows(spec(target_rps=2.0, popularity=uniform), ("a", "b"), 7))
    three = list(generated_rows(spec(target_rps=3.0, popularity=uniform), ("c", "a", "b"), 7))

    for model in ("a", "b"):
        assert times_of(two, model) == times_of(three, model)
    assert times_of(three, "c")


@pytest.mark.parametrize("pattern", ["conv", "code", "functions"])
def test_a_number_of_requests_is_the_beginning_of_a_longer_workload(pattern: str) -> None:
    fields: dict[str, Any] = {"kind": "azure_like", "pattern": pattern, "target_rps": 1.0}
    by_number = spec(duration_s=None, max_requests=400, **fields)
    by_time = spec(duration_s=5000.0, **fields)

    numbered = list(islice(generated_rows(by_number, MODELS, 3), 1500))
    timed = list(generated_rows(by_time, MODELS, 3))

    shared = min(len(numbered), len(timed))
    assert shared > 300
    assert numbered[:shared] == timed[:shared]


def test_arrivals_of_all_models_are_merged_in_order() -> None:
    rows = list(generated_rows(spec(cv=1.0), MODELS, 1))

    assert {row.source for row in rows} == set(MODELS)
    assert all(a.at_s <= b.at_s for a, b in pairwise(rows))
    assert rows[-1].at_s < 500.0


def test_each_model_can_have_its_own_cv() -> None:
    mixed = spec(cv=(0.0, 1.0, 6.0), popularity=Popularity("uniform"), duration_s=20_000.0)

    rows = list(generated_rows(mixed, MODELS, 1))

    cvs = [np.std(gaps) / np.mean(gaps) for gaps in (np.diff(times_of(rows, m)) for m in MODELS)]
    assert cvs == pytest.approx([0.0, 1.0, 6.0], rel=0.15, abs=1e-6)


def test_functions_are_mapped_to_models() -> None:
    fields: dict[str, Any] = {"kind": "azure_like", "num_functions": 300, "duration_s": 4000.0}

    rows = [
        list(generated_rows(spec(mapping=mapping, **fields), MODELS, 5))
        for mapping in ("stripe", "blocks")
    ]

    shares = [Counter(row.source for row in each) for each in rows]
    assert set(shares[0]) == set(MODELS)
    assert shares[1]["a"] > 0.99 * len(rows[1])  # the most popular functions are neighbours
    assert shares[0]["a"] < 0.9 * len(rows[0])
    assert [row.at_s for row in rows[0]] == [row.at_s for row in rows[1]]


def test_function_cvs_follow_the_published_distribution() -> None:
    published = PublishedCvs.load()

    drawn = [published.cv(f"f{i}", seed=1) for i in range(4000)]

    above = [np.mean(np.array(drawn) > cv) for cv in (1.0, 2.0, 4.0, 8.0)]
    assert above == pytest.approx([0.654, 0.451, 0.237, 0.1145], abs=0.03)
    assert np.median(drawn) == pytest.approx(1.73, rel=0.1)


def test_a_cv_for_each_of_the_wrong_number_of_models_is_an_error() -> None:
    with pytest.raises(TraceError, match="2 values of cv for 3 models"):
        generated_rows(spec(cv=(1.0, 2.0)), MODELS, 1)
