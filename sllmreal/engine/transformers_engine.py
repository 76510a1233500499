"""The kind of engine that runs causal language models of transformers, with their own weights."""

import json
from dataclasses import dataclass

from sllmcore.errors import UsageError
from sllmreal.engine.kind import DeployedDirectory, EngineKind, EngineModel
from sllmreal.engine.protocol import Engine

# Imports are inside: torch and transformers take seconds, and who deploys or leads needs neither.


@dataclass(frozen=True, slots=True)
class TransformersSettings:
    """Settings of a transformers engine.

    Args:
        prefill_chunk_tokens: Prompt tokens that one step computes at most.
    """

    prefill_chunk_tokens: int = 256


def _check_architecture(model: DeployedDirectory, settings: TransformersSettings) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = model.config.get("model_type")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UsageError(
            f"{model.directory}: model_type {json.dumps(kind)} is no causal language model of the "
            "installed transformers"
        )


def _prepare() -> None:
    import torch  # noqa: F401
    import transformers  # noqa: F401
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: F401


def _warm_up() -> None:
    from sllmreal.engine.warm_up import warm_up

    warm_up()


def _make(model: EngineModel, settings: TransformersSettings) -> Engine:
    from sllmreal.engine.build import EngineOptions, engine_of
    from sllmreal.engine.mapped_weights import mapped_weights

    weights = model.weights
    if weights is None:
        raise UsageError(f"{model.name}: this engine needs weights")
    options = EngineOptions(
        num_slots=model.num_slots,
        context_tokens=model.context_tokens,
        prefill_chunk_tokens=settings.prefill_chunk_tokens,
        model=weights.identity,
    )
    return engine_of(weights.directory, mapped_weights(weights, model.pool).tensors, options)


TRANSFORMERS = EngineKind(
    TransformersSettings,
    _make,
    check_model=_check_architecture,
    prepare=_prepare,
    warm_up=_warm_up,
)
