"""The verdicts of the soak campaign, and a short soak."""

import asyncio
import math
import random
import tempfile
from pathlib import Path

import pytest

from experiments.campaigns.cluster.soak import SoakOptions, report, run
from experiments.campaigns.cluster.soak_samples import SampleSeries
from experiments.campaigns.cluster.soak_verdict import verdicts
from experiments.simulation.environment import Stopwatch

MIB = 1 << 20


def hour(value: float, slope: float, noise: float, every_s: float = 10.0) -> SampleSeries:
    """Return a series of an hour that grows by `slope` in total, with noise."""
    rng, series = random.Random(0), SampleSeries()
    for number in range(int(3600 / every_s)):
        at_s = number * every_s
        series.add(at_s, value + slope * at_s / 3600 + rng.uniform(-noise, noise))
    return series


def grows(name: str, series: SampleSeries) -> bool:
    (verdict,) = verdicts({name: series})
    return verdict.grows


def test_a_leak_is_distinguished_from_noise() -> None:
    assert not grows("leader rss_bytes", hour(60 * MIB, 0, 10 * MIB))
    assert grows("leader rss_bytes", hour(60 * MIB, 20 * MIB, 10 * MIB))
    assert not grows("gateway files", hour(40, 0, 6))
    assert grows("gateway files", hour(40, 10, 6))
    assert grows("store keys", hour(2000, 4000, 100))


def test_a_sawtooth_and_a_process_that_starts_small_are_not_leaks() -> None:
    sawtooth, reborn = SampleSeries(), SampleSeries()
    for number in range(360):
        sawtooth.add(10.0 * number, 10 + 100 * (number % 37))
        reborn.add(10.0 * number, (60 - 20 * math.exp(-(number % 60) / 10)) * MIB)

    assert not grows("store keys", sawtooth)
    assert not grows("worker rss_bytes", reborn)


def test_warm_up_does_not_count_and_a_short_run_has_no_verdict() -> None:
    series = hour(100, 0, 0)
    series.values[:30] = [0.0] * 30
    short = SampleSeries()
    for number in range(12):
        short.add(number, number)

    assert not grows("gateway threads", series)
    assert verdicts({"gateway threads": short}) == []
    assert verdicts({"/dev/shm bytes": hour(0, 1e12, 0)}) == []


@pytest.mark.timeout(150)
def test_a_short_soak_loses_no_token_and_its_log_stays_short(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = SoakOptions(0.2, 4, 1.0, kill_every_s=3.0, compact_every=150, tiers=False)
    with tempfile.TemporaryDirectory() as directory:  # short: sockets lie in it
        soak = asyncio.run(run(options, Path(directory)))
    report(soak, options, tmp_path, Stopwatch())

    assert not soak.requests.failures
    assert soak.requests.answered.total() > 5
    assert soak.kills["worker"] and soak.kills["engine"]
    assert soak.num_cold_starts > 0
    assert max(soak.series["store keys"].values) < 2 * options.compact_every
    assert (tmp_path / "soak.png").stat().st_size > 10_000
    assert "cold starts" in capsys.readouterr().out
