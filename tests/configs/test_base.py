"""configs/base.yaml lists every key, with the default of the dataclass."""

from dataclasses import fields

import msgspec
import pytest
import yaml

from experiments.composing import CONFIGS, composed_run
from experiments.config.driver import DriverConfig
from experiments.config.models import ModelsConfig
from experiments.config.run_config import plain_config
from sllmcore.build import POLICIES, PolicySettings
from sllmcore.residency import LruResidency
from traces.spec import WorkloadSpec


def _base() -> dict[str, dict[str, object]]:
    base: dict[str, dict[str, object]] = yaml.safe_load((CONFIGS / "base.yaml").read_text())
    return base


# A run differs from the library on purpose: its keep-alive is that of the paper's evaluation.
POLICY = PolicySettings(residency=LruResidency(keep_alive_load_factor=1.0))
WORKLOAD = WorkloadSpec("poisson", target_rps=1.0, max_requests=1)


@pytest.mark.parametrize(
    ("section", "defaults", "chosen"),
    [
        ("driver", DriverConfig(), set()),
        ("policy", POLICY, {"name"}),
        ("workload", WORKLOAD, {"kind", "target_rps", "max_requests", "path"}),
    ],
)
def test_base_has_the_defaults_of_the_dataclass(
    section: str, defaults: object, chosen: set[str]
) -> None:
    plain = msgspec.to_builtins(defaults)
    base = _base()[section]

    assert plain.keys() - {"name", "kind"} <= base.keys() | {"name", "kind"}
    for key in plain.keys() - chosen:
        assert base[key] == plain[key], key


def test_base_has_every_key_of_the_models_but_the_deployments() -> None:
    names = {field.name for field in fields(ModelsConfig)}

    assert set(_base()["models"]) == names - {"deployments"}


def test_every_known_policy_has_its_file_and_every_file_a_known_policy() -> None:
    files = {path.stem for path in (CONFIGS / "policy").glob("*.yaml")}

    assert files >= set(POLICIES)
    for name in files:
        policy = composed_run([f"policy={name}"]).policy.name
        assert policy == name or name not in POLICIES


GROUPS = [
    f"{group}={path.stem}"
    for group in ("driver", "cluster", "models")
    for path in sorted((CONFIGS / group).glob("*.yaml"))
]


@pytest.mark.parametrize("choice", GROUPS)
def test_each_option_of_a_group_fits_the_schema(choice: str) -> None:
    config = composed_run([choice, *(["cluster=testbed_ii"] if "models" in choice else [])])

    assert plain_config(config)["seed"] == 0
