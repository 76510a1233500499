"""The configuration of a comparison besides that of a run: its policies, seeds and processes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from experiments.config.reading import read_config
from sllmcore.errors import UsageError


@dataclass(frozen=True, slots=True)
class CompareConfig:
    """A comparison.

    Args:
        policies: Options of the group `policy`, or registered policies.
        seeds: Seeds of each policy's runs; None: the config's one seed.
        workers: Number of processes; None: one per CPU.
        json: Print the results as JSON, not as a table.
    """

    policies: tuple[str, ...]
    seeds: tuple[int, ...] | None
    workers: int | None
    json: bool

    def __post_init__(self) -> None:
        if not self.policies or self.seeds == ():
            raise UsageError("a comparison needs at least one policy and one seed")
        for name in ("policies", "seeds"):
            values = getattr(self, name) or ()
            if len(set(values)) != len(values):
                raise UsageError(f"{name} must differ, got {list(values)}")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers must be at least 1, got {self.workers}")


_KEYS = tuple(field.name for field in fields(CompareConfig))


def compare_config(plain: Mapping[str, Any]) -> CompareConfig:
    """Read the comparison from composed YAML. Raises UsageError."""
    return read_config(CompareConfig, {key: plain[key] for key in _KEYS})


def without_compare_keys(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of the run only; configs set both, for both commands."""
    return {key: value for key, value in plain.items() if key not in _KEYS}
