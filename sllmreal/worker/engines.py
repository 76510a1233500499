"""The engine of a deployed model, by the name that its deployment gives."""

from typing import TYPE_CHECKING, Any

from sllmcore.plugins import PLUGINS
from sllmcore.typed_settings import settings_of
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.kind import EngineKind, EngineModel
from sllmreal.engine.protocol import Engine
from sllmreal.engine.registry import ENGINES
from sllmreal.engine.weights import Weights

if TYPE_CHECKING:
    from sllmreal.loader.pool import ChunkPool


def engine_kind(engine: str) -> EngineKind[Any]:
    """Return a kind of engine. Raises UsageError for an unknown one.

    A reference `module:name` is imported: the operator who deployed the model named it, and proved
    to have the cluster's key.
    """
    PLUGINS.allow([engine])
    return ENGINES[engine]


def check_settings(model: ModelDeployment) -> None:
    """Raise UsageError for an unknown engine, or a setting that is unknown or of the wrong type."""
    _settings_of(model)


def make_engine(
    model: ModelDeployment, weights: Weights | None, pool: "ChunkPool | None"
) -> Engine:
    """Return the engine, ready. `pool` is the worker's own, None in another process.

    Raises:
        UsageError: The engine cannot run the model. What loading raises is passed on.
    """
    made_from = EngineModel(
        model.name, model.context_tokens, model.num_slots, model.num_gpus, weights, pool
    )
    engine: Engine = engine_kind(model.engine).make(made_from, _settings_of(model))
    return engine


def _settings_of(model: ModelDeployment) -> Any:
    kind = engine_kind(model.engine)
    return settings_of(kind.settings, model.settings, f"{model.name}: engine {model.engine}")
