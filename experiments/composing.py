"""The composition of YAML files to a config by Hydra, for the commands and for programs."""

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
HYDRA_VERSION = "1.3"  # the version of Hydra's defaults


def plain_data(config: DictConfig) -> dict[str, Any]:
    """Return a composed config as plain data, with interpolations resolved.

    Raises:
        MissingMandatoryValue: A value of the config is missing.
    """
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def composed(root: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the config of a root (`run`, `compare`) with overrides."""
    return plain_data(_compose(root, [_with_registered(one) for one in overrides]))


def _with_registered(override: str) -> str:
    """Return an override; `policy=NAME` may name a registered policy that has no file."""
    name = override.removeprefix("policy=")
    if name == override or (CONFIGS / "policy" / f"{name}.yaml").is_file():
        return override
    known = is_reference(name) or name in POLICIES.names()
    return f"policy.scheduler={name}" if known else override


def composed_run(overrides: Sequence[str]) -> RunConfig:
    """Return the config of `python -m experiments.run OVERRIDES`.

    Composing files takes 0.1 s, so each combination of files is composed once, and plain values are
    set afterwards, as Hydra sets them. A grid of a thousand runs needs few combinations.

    Raises:
        UsageError: A key or value is wrong.
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
    """Return True for `key.of.a.setting=value`; Hydra itself handles other overrides."""
    key, equals, _ = override.partition("=")
    plain = "." in key and key.replace(".", "").replace("_", "").isalnum()
    return bool(equals) and plain and not key.startswith("hydra.")


@cache
def _files_of_run(choices: tuple[str, ...]) -> DictConfig:
    return _compose("run", choices)


def _compose(root: str, overrides: Sequence[str]) -> DictConfig:
    if GlobalHydra.instance().is_initialized():  # inside a command
        return compose(root, list(overrides))
    with initialize_config_dir(str(CONFIGS), version_base=HYDRA_VERSION):
        return compose(root, list(overrides))
