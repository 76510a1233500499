"""A deployed model: what a cluster has to know to serve it."""

import re
from collections.abc import Mapping

import msgspec

from sllmcore.errors import UsageError
from sllmcore.types import Checkpoint
from sllmreal.engine.kind import DEFAULT_ENGINE

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,3}")


class ModelDeployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model. `source` is a directory or URL that holds its weights: the REMOTE tier.

    `engine` is a name in `sllmreal.engine.registry`, `settings` are those of that engine. `tenants`
    may see and use the model; None: all may.
    """

    name: str
    source: str
    size_bytes: int
    context_tokens: int
    created_at_s: float
    engine: str = DEFAULT_ENGINE
    num_gpus: int = 1
    num_slots: int = 4
    settings: Mapping[str, str | int | float | bool | None] = {}
    tenants: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.name) > 200 or not _NAME.fullmatch(self.name):
            raise UsageError(
                f"a model's name has letters, digits, '.', '_', '-' and up to three '/', "
                f"got {self.name[:100]!r}"
            )
        if self.num_slots < 1:
            raise UsageError(f"num_slots must be at least 1, got {self.num_slots}")
        if self.context_tokens < 1:
            raise UsageError(f"context_tokens must be at least 1, got {self.context_tokens}")

    @property
    def checkpoint(self) -> Checkpoint:
        """As the controller sees it. Raises UsageError when sizes are not positive."""
        return Checkpoint(self.name, self.size_bytes, self.num_gpus)
