"""Refusal of configs that a real cluster cannot carry out, before anything is started."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from experiments.config.real import RealSettings
from experiments.config.run_config import RunConfig
from sllmcore.errors import UsageError
from sllmcore.workload import WorkloadRequest
from sllmreal.control.deployment import ModelDeployment
from sllmreal.leader.policy_support import unsupported_reason
from sllmsim.setup import LoaderProfile


def real_settings(config: RunConfig) -> RealSettings:
    """Return the settings of a run with driver=real.

    Raises:
        UsageError: A real cluster cannot carry it out; the message names all reasons and keys.
    """
    settings = config.driver.real
    assert settings is not None, "checked by the driver's config"
    problems = [*_of_driver(config), *_of_cluster(config)]
    if settings.engine_kind.needs_weights:
        problems += _of_real_bytes(config)
    if problems:
        raise UsageError(f"driver=real cannot do this: {'; '.join(problems)}")
    return settings


def _of_driver(config: RunConfig) -> Iterator[str]:
    driver, policy = config.driver, config.policy
    if driver.fault_horizon_s is not None:
        yield "driver.fault_horizon_s: faults strike in the simulator only (kill processes instead)"
    if driver.storage_bytes_per_s is not None:
        yield "driver.storage_bytes_per_s: its servers do not share a storage service"
    if not driver.recovers_tokens:
        yield "driver.recovers_tokens=false: its gateway always keeps the tokens it has sent"
    if driver.loader != LoaderProfile() and driver.system == "sllm":
        yield f"driver.loader={driver.loader.name}: its loader is its own"
    if driver.system == "ray_serve":
        if driver.real is not None and not driver.real.engine_kind.paced:
            yield "driver.real.engine: Ray Serve's replicas run paced engines here, such as timed"
        if find_spec("ray") is None:
            yield "driver.system=ray_serve: it is not installed (pip install '.[cluster]')"
    if driver.phases != "paper":
        yield f"driver.phases={driver.phases}: its cold starts take what they take"
    if reason := unsupported_reason(policy.name):
        yield f"policy={policy.name}: {reason}"
    if policy.residency.partial:
        yield "policy.residency.partial: not with every storage"


def _of_cluster(config: RunConfig) -> Iterator[str]:
    for name, group in config.cluster.servers.items():
        if group.gpus_per_uplink > 1:
            yield f"cluster.servers.{name}.gpus_per_uplink: its GPUs have a link each"
        if len(f"{name}-{group.count - 1}") > 24:
            yield f"cluster.servers.{name}: a server's name has up to 24 characters"
    for name, deployment in config.models.deployments.items():
        if deployment.gpus_per_instance(config.cluster.gpu) > 1:
            yield f"models.deployments.{name}: an instance takes one GPU"


def _of_real_bytes(config: RunConfig) -> Iterator[str]:
    models = config.models
    if models.ssd.kind != "none" or models.dram.kind != "none":
        yield "models.ssd and models.dram must be none: with real bytes, tiers begin empty"


def check_lengths(jobs: Sequence[WorkloadRequest], models: Sequence[ModelDeployment]) -> None:
    """Refuse requests that are longer than their model's context.

    Raises:
        UsageError: The message names the first one.
    """
    contexts = {model.name: model.context_tokens for model in models}
    for job in jobs:
        request = job.request
        tokens = request.input_tokens + job.output_tokens
        if tokens > contexts[request.model]:
            raise UsageError(
                f"{request.id} has {tokens} tokens, more than the {contexts[request.model]} of "
                f"{request.model}'s context: set workload.total_limit_tokens"
            )
