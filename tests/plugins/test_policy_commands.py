"""Policies from outside, on the command line of experiments."""

import json
from pathlib import Path

import pytest

from experiments import run
from experiments.simulation.journal_file import journal_lines
from experiments.simulation.run_folder import JOURNAL, REQUESTS
from tests.experiments.commands import called as called_here
from tests.plugins.toys import called

SMALL = (
    "experiments.run",
    "cluster=small",
    "models=opt_few",
    "workload=poisson",
    "workload.max_requests=10",
)


def header(folder: Path) -> dict[str, object]:
    """Return the policy of a journal's first line."""
    policy: dict[str, object] = json.loads(next(journal_lines(folder / JOURNAL)))["policy"]
    return policy


def test_a_policy_is_found_by_its_entry_point(toys: Path) -> None:
    called(toys, *SMALL, "policy=toy", "+policy.settings.patience=2", "out=a")
    called(toys, *SMALL, "policy=locality", "out=b")

    policy = header(toys / "a")
    assert (policy["name"], policy["settings"]) == ("toy", {"patience": 2})
    assert (toys / "a" / REQUESTS).read_bytes() == (toys / "b" / REQUESTS).read_bytes()
    assert "100 % identical" in called(toys, "experiments.replay", "a")


@pytest.mark.parametrize("name", ["POLICY", "ToyScheduler"])
def test_a_policy_or_a_scheduler_is_named_as_module_and_name(toys: Path, name: str) -> None:
    called(toys, *SMALL, f"policy.scheduler=toy_policy:{name}", "out=a")

    assert header(toys / "a")["name"] == f"toy_policy:{name}"
    refused = called(toys, "experiments.replay", "a", code=2)
    assert "the command line does not name it" in refused
    allowed = ("--allow", f"toy_policy:{name}")
    assert "100 % identical" in called(toys, "experiments.replay", "a", *allowed)


def test_policies_from_outside_are_compared_in_processes_of_their_own(toys: Path) -> None:
    policies = "policies=[toy,toy_policy:ToyScheduler,locality]"
    output = called(toys, "experiments.compare", *SMALL[1:], policies, "workers=2", "out=a")

    assert "toy_policy:ToyScheduler" in output


def test_residency_and_prewarmer_are_found_by_their_entry_points(toys: Path) -> None:
    words = ("policy.residency_policy=toy", "+policy.residency_settings.keep_s=9")
    called(toys, *SMALL, *words, "policy.prewarmer=toy_policy:PREWARMER", "out=a")

    policy = header(toys / "a")
    assert policy["residency_policy"] == "toy"
    assert policy["residency_settings"] == {"keep_s": 9}
    assert policy["prewarmer"] == "toy_policy:PREWARMER"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("policy.scheduler=toi",), "unknown policy 'toi', known are serverlessllm, "),
        (("policy.scheduler=toi",), "did you mean toy?"),
        (("policy=broken",), "entry point broken = toy_policy:NOT_THERE of sllm.policies"),
        (("policy=unfit",), "policy 'unfit': expected a Policy, got ResidencyKind("),
        (("policy.scheduler=toy_policy:NOT_THERE",), "toy_policy:NOT_THERE cannot be loaded"),
        (("policy.scheduler=no_such:X",), "No module named 'no_such'"),
        (
            ("policy=toy", "+policy.settings.patienc=1"),
            "policy toy: there is no setting 'patienc', known are max_candidates, patience",
        ),
        (
            ("policy=toy", "+policy.settings.patience=long"),
            "policy toy: patience must be a number, got 'long'",
        ),
        (("policy.residency_policy=mru",), "unknown residency 'mru', known are lru, toy"),
        (("policy.prewarmer=oracle",), "unknown prewarmer 'oracle', known are warmserve, toy"),
    ],
)
def test_a_mistake_is_refused_in_one_line(
    toys_here: Path, words: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = toys_here / "a"

    assert called_here(run.main, *SMALL[1:], *words, f"out={out}") == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_config_alone_cannot_import_a_module(toys: Path) -> None:
    """Seeded bug: references are allowed wherever they are read, so that a config runs code."""
    (toys / "toy_policy.py").write_text("raise SystemExit('the config has run code')")
    for group, key in (("policy", "name"), ("experiment", "policies")):
        (toys / "configs" / group).mkdir(parents=True)
        value = "toy_policy:POLICY" if group == "policy" else "[toy_policy:POLICY]"
        package = "# @package _global_\n" if group == "experiment" else ""
        (toys / "configs" / group / "evil.yaml").write_text(f"{package}{key}: {value}\n")
    search = f"hydra.searchpath=[file://{toys / 'configs'}]"

    alone = called(toys, *SMALL, search, "policy=evil", "out=a", code=2)
    assert "toy_policy:POLICY may not be imported" in alone
    words = (*SMALL[1:], search, "experiment=evil", "out=b")
    compare = called(toys, "experiments.compare", *words, code=2)
    assert "toy_policy:POLICY may not be imported" in compare
