"""Random small instances with contention: more models than GPUs, DRAM for some of the models.

All times are whole seconds. A model of 12 GB loads in 1 s from DRAM, 4 s from SSD and 8 s from
remote storage; a model of 24 GB takes twice as long, but 1 s from DRAM into two GPUs. An inference
takes 2 to 12 s.
"""

from dataclasses import dataclass
from random import Random

from sllmcore.build import PolicySettings
from sllmcore.controller import ControllerSettings
from sllmcore.types import DRAM, SSD, Checkpoint, Request, Residency
from sllmcore.workload import WorkloadRequest
from sllmsim.catalog import gpu_named
from sllmsim.setup import ServerHardware, SimModel, SimServerSetup, SimSetup
from sllmsim.timing import LinearTiming

SLOT_S = 1.0
GB = 1_000_000_000
PCIE_BYTES_PER_S, SSD_BYTES_PER_S, NIC_BYTES_PER_S = 12.0 * GB, 3.0 * GB, 1.5 * GB
TOKENS_PER_S = 4
TIMING = LinearTiming(
    fixed_s=1 / TOKENS_PER_S, prefill_fixed_s=1 / TOKENS_PER_S, prefill_per_token_s=0.0
)


@dataclass(frozen=True, slots=True)
class SmallInstance:
    """A cluster and its requests."""

    setup: SimSetup
    requests: tuple[WorkloadRequest, ...]


@dataclass(frozen=True, slots=True)
class InstanceSize:
    """Limits on the size of a random instance."""

    max_servers: int = 3
    max_gpus: int = 2  # per server
    num_models: int = 3
    max_requests: int = 7


def patient(policy: str) -> PolicySettings:
    """Return the settings of a policy without a time-out, so that every request is served."""
    return PolicySettings(policy, controller=ControllerSettings(startup_timeout_s=None))


def random_instance(seed: int, size: InstanceSize | None = None) -> SmallInstance:
    """Return the random instance of a seed."""
    size = size or InstanceSize()
    rng = Random(f"{seed}/small instance")  # noqa: S311 - an experiment, not a secret
    num_servers = rng.randint(min(2, size.max_servers), size.max_servers)
    num_gpus = [rng.randint(1, size.max_gpus) for _ in range(num_servers)]
    models = [_model(rng, name, max(num_gpus)) for name in "ABCDEFGH"[: size.num_models]]
    everywhere = rng.random() < 0.7
    servers = tuple(
        _server(rng=rng, server_id=f"s{i}", num_gpus=gpus, models=models, everywhere=everywhere)
        for i, gpus in enumerate(num_gpus)
    )
    setup = SimSetup(servers, tuple(SimModel(checkpoint, TIMING) for checkpoint in models))
    return SmallInstance(setup, _requests(rng, size, models))


def _model(rng: Random, name: str, most_gpus: int) -> Checkpoint:
    if rng.random() < 0.25:
        return Checkpoint(name, most_gpus * 12 * GB, most_gpus)
    return Checkpoint(name, rng.choice((12, 12, 24)) * GB)


def _server(
    rng: Random, server_id: str, num_gpus: int, models: list[Checkpoint], everywhere: bool
) -> SimServerSetup:
    """Return a server with all models on SSD, or some of them, and at most a few in DRAM."""
    dram_bytes = rng.choice((12, 24, 36)) * GB
    on_ssd = models if everywhere else rng.sample(models, rng.randint(1, len(models)))
    resident = [Residency(SSD, checkpoint.model, checkpoint.size_bytes) for checkpoint in on_ssd]
    left_bytes = dram_bytes
    for checkpoint in rng.sample(on_ssd, rng.randint(0, len(on_ssd))):
        if checkpoint.size_bytes <= left_bytes:
            resident.append(Residency(DRAM, checkpoint.model, checkpoint.size_bytes))
            left_bytes -= checkpoint.size_bytes
    return SimServerSetup(server_id, hardware_of(num_gpus, dram_bytes), tuple(resident))


def hardware_of(num_gpus: int, dram_bytes: int) -> ServerHardware:
    """Return a server on which loads take whole seconds."""
    return ServerHardware(
        gpu=gpu_named("a40"),
        num_gpus=num_gpus,
        dram_pool_bytes=dram_bytes,
        ssd_bytes=96 * GB,
        ssd_read_bytes_per_s=SSD_BYTES_PER_S,
        ssd_write_bytes_per_s=SSD_BYTES_PER_S,
        nic_bytes_per_s=NIC_BYTES_PER_S,
        pcie_bytes_per_s=PCIE_BYTES_PER_S,
    )


def _requests(
    rng: Random, size: InstanceSize, models: list[Checkpoint]
) -> tuple[WorkloadRequest, ...]:
    num_requests = rng.randint(max(1, size.max_requests - 2), size.max_requests)
    span_s = rng.choice((6, 12, 20))
    arrivals_s = sorted(rng.randint(0, span_s) for _ in range(num_requests))
    return tuple(
        request_of(number, rng.choice(models).model, float(at_s), rng.randint(2, 12))
        for number, at_s in enumerate(arrivals_s)
    )


def request_of(number: int, model: str, arrived_at_s: float, service_s: int) -> WorkloadRequest:
    """Return a request with a service time in seconds."""
    request = Request(f"r{number}", model, arrived_at_s, input_tokens=16)
    return WorkloadRequest(request, service_s * TOKENS_PER_S)
