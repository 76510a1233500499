"""YAML into plain data by Hydra: for the commands, for tests, and for programs that run a grid."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from experiments.config.compare_config import without_compare_keys
from experiments.config.run_config import RunConfig, run_config

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
HYDRA_VERSION = "1.3"  # whose defaults hold


def plain_data(config: DictConfig) -> dict[str, Any]:
    """A composed config without interpolations; a missing value is an error of OmegaConf."""
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def composed(root: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The config of a root (`run`, `compare`) under overrides."""
    if GlobalHydra.instance().is_initialized():  # inside of a command
        plain = plain_data(compose(root, list(overrides)))
    else:
        with initialize_config_dir(str(CONFIGS), version_base=HYDRA_VERSION):
            plain = plain_data(compose(root, list(overrides)))
    return plain


def composed_run(overrides: Sequence[str]) -> RunConfig:
    """A run as `python -m experiments.run OVERRIDES` would have it.

    Raises:
        UsageError: Something in it is wrong.
    """
    plain = composed("run", overrides)
    del plain["out"]
    return run_config(without_compare_keys(plain))
