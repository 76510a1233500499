"""Deployments of a config's models on a real cluster."""

import time
from dataclasses import asdict
from pathlib import Path

from experiments.config.real import RealSettings
from experiments.config.run_config import RunConfig
from experiments.simulation.calibrated import emulated_pace
from experiments.simulation.setup import roofline_timing
from sllmreal.control.deployment import ModelDeployment
from sllmsim.catalog import model_named


def served_models(
    config: RunConfig, settings: RealSettings, folder: Path
) -> tuple[ModelDeployment, ...]:
    """Return the deployments in the order of the config; write generated weights to `folder`."""
    if settings.engine_kind.needs_weights:
        return _written_models(config, settings, folder)
    return tuple(
        _model_without_weights(config, settings, name, index)
        for name, deployment in config.models.deployments.items()
        for index in range(deployment.replicas)
    )


def _model_without_weights(
    config: RunConfig, settings: RealSettings, name: str, index: int
) -> ModelDeployment:
    """Return a model; a paced engine sleeps as long as the config's model would compute."""
    deployment, gpu = config.models.deployments[name], config.cluster.gpu
    pace = asdict(emulated_pace(roofline_timing(config, deployment)))
    return ModelDeployment(
        name=f"{name}-{index}",
        source=f"/nowhere/{name}-{index}",
        size_bytes=deployment.size_bytes,
        context_tokens=model_named(deployment.model).max_context_tokens,
        created_at_s=time.time(),
        engine=settings.engine,
        num_gpus=deployment.gpus_per_instance(gpu),
        num_slots=deployment.slots_per_instance(gpu),
        settings=pace if settings.engine_kind.paced else {},
    )


def _written_models(
    config: RunConfig, settings: RealSettings, folder: Path
) -> tuple[ModelDeployment, ...]:
    """Return models with different generated weights; equal ones would share their memory."""
    import torch

    from sllmreal.cli.deploy import Choices, described
    from sllmreal.engine.samples import write_sample

    specs: list[ModelDeployment] = []
    for name, deployment in config.models.deployments.items():
        num_slots = deployment.slots_per_instance(config.cluster.gpu)
        choices = Choices(num_slots, needs_tokenizer=False, engine=settings.engine)
        for index in range(deployment.replicas):
            model = f"{name}-{index}"
            source = write_sample(
                folder / model, settings.sample, dtype=torch.bfloat16, seed=len(specs)
            )
            specs.append(described(source, model, time.time(), choices))
    return tuple(specs)
