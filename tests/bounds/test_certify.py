"""No policy beats the optimum: `certificate_of` would raise."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.bounds import main
from experiments.reproduction.bounds.certify import FIVE, certificate, certificate_of, gap_table
from experiments.reproduction.bounds.instances import InstanceSize, random_instance

TINY = InstanceSize(max_servers=2, max_gpus=2, num_models=2, max_requests=4)


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_the_optimum_of_a_tiny_instance_is_below_every_policy(seed: int) -> None:
    made = certificate_of(random_instance(seed, TINY), seed, time_limit_s=20.0)

    assert set(made.policies_s) == set(FIVE)
    assert made.chains_s <= min(made.policies_s.values()) + 1e-6
    assert made.optimum_s <= min(made.policies_s.values()) + 1e-6


def test_the_same_seed_gives_the_same_certificate() -> None:
    assert certificate(10, time_limit_s=None) == certificate(10, time_limit_s=None)


def test_the_table_has_each_policy_and_its_gap() -> None:
    made = certificate(10, time_limit_s=None)
    worse = replace(made, policies_s=dict.fromkeys(FIVE, made.optimum_s + 1.0))

    table = gap_table([made, worse])

    assert "2 instances, 2 solved to optimality (100 %)" in table
    assert all(name in table for name in FIVE)


def test_certify_prints_gaps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(
        ["certify", "--instances", "1", "--first-seed", "10", "--out", f"{tmp_path}/c.json"]
    )

    assert code == 0
    assert "serverlessllm" in capsys.readouterr().out
    assert (tmp_path / "c.json").stat().st_size > 100
