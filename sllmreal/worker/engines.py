"""From a deployed model to its engine, by the name that its deployment gives."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from sllmcore.errors import UsageError
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.protocol import Engine
from sllmreal.engine.timed import Pace, TimedOptions, timed_engine
from sllmreal.worker.storage import Weights

if TYPE_CHECKING:
    from sllmreal.loader.pool import ChunkPool

Setting = str | int | float | bool


class _TimedSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    vocab_size: int = 32000
    exports_kv: bool = True
    prefill_chunk_tokens: int = 256
    prefill_token_s: float = 0.0
    decode_step_s: float = 0.0
    decode_sequence_s: float = 0.0


class _TransformersSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prefill_chunk_tokens: int = 256


def check_settings(model: ModelDeployment) -> None:
    """Raise UsageError for an engine or setting that there is not."""
    _settings_of(model)


def warm_up(engine: str) -> None:
    """Do what takes long and needs no model. No memory of a device is taken.

    Raises UsageError for an engine that there is not.
    """
    if _kind_of(engine) is _TransformersSettings:
        from sllmreal.worker.rehearsal import rehearse

        rehearse()


def prepare(model: ModelDeployment) -> None:
    """Do what takes long and needs no weights: imports."""
    if isinstance(_settings_of(model), _TransformersSettings):
        import torch  # noqa: F401
        import transformers  # noqa: F401
        from transformers import AutoConfig, AutoModelForCausalLM  # noqa: F401


def make_engine(
    model: ModelDeployment, weights: Weights | None, pool: "ChunkPool | None"
) -> Engine:
    """The engine, ready. `pool` is the worker's own, None in another process.

    Raises UsageError for a model that the engine cannot run, and what loading raises.
    """
    match _settings_of(model):
        case _TimedSettings() as settings:
            return _timed(model, settings)
        case settings:
            return _transformers(model, settings, weights, pool)


def _settings_of(model: ModelDeployment) -> _TimedSettings | _TransformersSettings:
    try:
        return msgspec.convert(dict(model.settings), _kind_of(model.engine))
    except msgspec.ValidationError as error:
        raise UsageError(f"{model.name}: settings of its engine: {error}") from error


def _kind_of(engine: str) -> type[_TimedSettings] | type[_TransformersSettings]:
    kinds: Mapping[str, type[_TimedSettings] | type[_TransformersSettings]] = {
        "timed": _TimedSettings,
        "transformers": _TransformersSettings,
    }
    kind = kinds.get(engine)
    if kind is None:
        raise UsageError(f"an engine is one of {sorted(kinds)}, not {engine!r}")
    return kind


def _timed(model: ModelDeployment, settings: _TimedSettings) -> Engine:
    pace = Pace(settings.prefill_token_s, settings.decode_step_s, settings.decode_sequence_s)
    options = TimedOptions(
        model=model.name,
        context_tokens=model.context_tokens,
        num_slots=model.num_slots,
        vocab_size=settings.vocab_size,
        exports_kv=settings.exports_kv,
        prefill_chunk_tokens=settings.prefill_chunk_tokens,
        pace=pace,
    )
    return timed_engine(options)


def _transformers(
    model: ModelDeployment,
    settings: _TransformersSettings,
    weights: Weights | None,
    pool: "ChunkPool | None",
) -> Engine:
    from sllmreal.engine.build import EngineOptions, engine_of
    from sllmreal.worker.weights import mapped_weights

    if weights is None:
        raise UsageError(f"{model.name}: this engine needs weights")
    options = EngineOptions(
        num_slots=model.num_slots,
        context_tokens=model.context_tokens,
        prefill_chunk_tokens=settings.prefill_chunk_tokens,
        model=weights.identity,
    )
    return engine_of(weights.directory, mapped_weights(weights, pool).tensors, options)
