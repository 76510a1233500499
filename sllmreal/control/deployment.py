"""Model deployments: the settings with which a cluster serves a model."""

import re
from collections.abc import Mapping

import msgspec

from sllmcore.errors import UsageError
from sllmcore.types import Checkpoint
from sllmreal.engine.kind import DEFAULT_ENGINE

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,3}")


class ModelDeployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model that a cluster serves.

    Attributes:
        name: The name in requests.
        source: Directory or URL of the weights: the REMOTE tier.
        size_bytes: Size of the weights.
        context_tokens: Length of the context, prompt and output together.
        created_at_s: Unix time of the deployment.
        engine: Name of an engine in `sllmreal.engine.registry`.
        num_gpus: GPUs of an instance.
        num_slots: Concurrent requests of an instance.
        settings: The engine's own settings.
        tenants: The tenants that may see and use the model; None: all.
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
        """The controller's view of the model. Raises UsageError if a size is not positive."""
        return Checkpoint(self.name, self.size_bytes, self.num_gpus)
