"""Models that no server can run, because they need more GPUs or more GPU memory than it has."""

from collections.abc import Collection, Iterable

from sllmcore.types import ServerSpec
from sllmreal.control.deployment import ModelDeployment


def misfit(model: ModelDeployment, servers: Collection[ServerSpec]) -> str:
    """Return the reason why none of the servers can run a model.

    Empty if one can, or if there is no server: then nothing is known. The rule is the controller's,
    `sllmcore.cluster.server`.
    """
    if not servers:
        return ""
    num_gpus = max(server.num_gpus for server in servers)
    if model.num_gpus > num_gpus:
        return (
            f"model {model.name} needs {model.num_gpus} GPUs, the largest server has {num_gpus}: "
            "start a larger worker, or deploy the model on fewer GPUs"
        )
    gpu_bytes = max(one.gpu_memory_bytes for one in servers if one.num_gpus >= model.num_gpus)
    if model.size_bytes > model.num_gpus * gpu_bytes:
        return (
            f"model {model.name} has {model.size_bytes} bytes for {model.num_gpus} GPUs, the "
            f"largest of which have {gpu_bytes} bytes each: start a worker with more GPU memory, "
            "or deploy the model on more GPUs"
        )
    return ""


def misfits(models: Iterable[ModelDeployment], servers: Collection[ServerSpec]) -> dict[str, str]:
    """Return the reason for each model that no server can run."""
    found = {model.name: misfit(model, servers) for model in models}
    return {name: reason for name, reason in found.items() if reason}
