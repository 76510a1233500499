"""YAML into plain data by Hydra: for the commands, for tests, and for programs that run a grid."""

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from experiments.config.compare_config import without_compare_keys
from experiments.config.run_config import RunConfig, run_config
from sllmcore.build import POLICIES
from sllmcore.plugins import is_reference

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
HYDRA_VERSION = "1.3"  # whose defaults hold


def plain_data(config: DictConfig) -> dict[str, Any]:
    """A composed config without interpolations; a missing value is an error of OmegaConf."""
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def composed(root: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The config of a root (`run`, `compare`) under overrides."""
    return plain_data(_put_together(root, [_with_registered(one) for one in overrides]))


def _with_registered(override: str) -> str:
    """Return an override, where `policy=NAME` may name a registered policy that has no file."""
    name = override.removeprefix("policy=")
    if name == override or (CONFIGS / "policy" / f"{name}.yaml").is_file():
        return override
    known = is_reference(name) or name in POLICIES.names()
    return f"policy.scheduler={name}" if known else override


def composed_run(overrides: Sequence[str]) -> RunConfig:
    """A run as `python -m experiments.run OVERRIDES` would have it.

    Plain values are set as Hydra sets them, after the files have been put together: that takes 0.1
    s, and a grid of a thousand runs needs few combinations of files.

    Raises:
        UsageError: Something in it is wrong.
    """
    overrides = [_with_registered(one) for one in overrides]
    choices = tuple(one for one in overrides if not _is_value(one))
    values = [one for one in overrides if _is_value(one)]
    config = deepcopy(_files_of_run(choices))
    for value in OverridesParser.create().parse_overrides(values):
        OmegaConf.update(config, value.key_or_group, value.value(), merge=True)
    plain = plain_data(config)
    del plain["out"]
    return run_config(without_compare_keys(plain))


def _is_value(override: str) -> bool:
    """Whether it is plainly `key.of.a.setting=value`; anything else is Hydra's."""
    key, equals, _ = override.partition("=")
    plain = "." in key and key.replace(".", "").replace("_", "").isalnum()
    return bool(equals) and plain and not key.startswith("hydra.")


@cache
def _files_of_run(choices: tuple[str, ...]) -> DictConfig:
    return _put_together("run", choices)


def _put_together(root: str, overrides: Sequence[str]) -> DictConfig:
    if GlobalHydra.instance().is_initialized():  # inside of a command
        return compose(root, list(overrides))
    with initialize_config_dir(str(CONFIGS), version_base=HYDRA_VERSION):
        return compose(root, list(overrides))
