"""The capability to see the truth: all arrivals and how long each inference will take.

An `Oracle` is made from what a driver has, its setup and its jobs, and handed to the bounds. No
scheduler is given one: a controller gets requests only, one at a time.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sllmcore.build import PolicySettings, built_residency
from sllmcore.errors import UsageError
from sllmcore.types import DRAM, REMOTE, SSD, Checkpoint, StorageTier
from sllmcore.workload import WorkloadRequest
from sllmsim.setup import ServerHardware, SimSetup
from sllmsim.timing import InferenceTiming, iterations_s


@dataclass(frozen=True, slots=True)
class KnownRequest:
    """A request with its hidden fate."""

    id: str
    checkpoint: Checkpoint
    arrived_at_s: float
    service_s: float  # of its inference, alone, from its start to its last token


@dataclass(frozen=True, slots=True)
class Powers:
    """What a class of policies may do.

    Args:
        ahead: Launch instances that nobody waits for.
        max_parts: Servers over whose networks one load may come; they serve together.
        caches: Leave copies behind in DRAM or on SSD.
    """

    ahead: bool = False
    max_parts: int = 1
    caches: bool = True


ON_DEMAND = Powers()


def powers_of(policy: PolicySettings) -> Powers:
    """Those of the class that a policy belongs to."""
    parts = policy.splitting.max_parts if policy.registered.splits_loads else 1
    residency = built_residency(policy)
    caches = bool(residency.cache_in(REMOTE) or residency.cache_in(SSD))
    return Powers(policy.prewarmer_name is not None, parts, caches)


@dataclass(frozen=True, slots=True)
class Oracle:
    """Everything that will happen, the hardware on which it does, and what policies may do."""

    setup: SimSetup
    requests: tuple[KnownRequest, ...]
    powers: Powers = ON_DEMAND

    @property
    def num_gpus(self) -> int:
        """Of all servers."""
        return sum(server.hardware.num_gpus for server in self.setup.servers)

    def least_load_s(
        self, checkpoint: Checkpoint, hardware: ServerHardware, tier: StorageTier
    ) -> float:
        """No load from that tier on such a server can be faster: its path, alone."""
        loader, size_bytes = self.setup.loader, checkpoint.size_bytes
        to_gpus = loader.dram_efficiency * checkpoint.num_gpus * hardware.pcie_bytes_per_s
        if tier is DRAM:
            return size_bytes / to_gpus
        read = min(to_gpus, loader.ssd_efficiency * hardware.ssd_read_bytes_per_s)
        if tier is SSD:
            return size_bytes / read
        parts = min(self.powers.max_parts, len(self.setup.servers))
        fetch = loader.remote_efficiency * parts * hardware.nic_bytes_per_s
        if self.setup.storage_bytes_per_s is not None:
            fetch = min(fetch, self.setup.storage_bytes_per_s)
        if loader.pipelined:
            return size_bytes / min(fetch, to_gpus)
        return size_bytes / fetch + size_bytes / read


def oracle_of(
    setup: SimSetup, jobs: Iterable[WorkloadRequest], powers: Powers = ON_DEMAND
) -> Oracle:
    """What will happen when these jobs are played.

    Args:
        powers: Of the policies that are to be bounded.

    Raises:
        UsageError: The bounds do not hold there: faults, impatient clients, several slots, or
            models that rest partly in a tier.
    """
    _check(setup)
    models = {model.checkpoint.model: model for model in setup.models}
    requests = []
    for job in jobs:
        if job.cancel_at_s is not None:
            raise UsageError(f"bounds need patient clients, {job.request.id} leaves")
        model = models[job.request.model]
        service_s = _service_s(model.timing, job.request.input_tokens, job.output_tokens)
        request = job.request
        requests.append(KnownRequest(request.id, model.checkpoint, request.arrived_at_s, service_s))
    return Oracle(setup, tuple(requests), powers)


def _service_s(timing: InferenceTiming, input_tokens: int, output_tokens: int) -> float:
    """The first token comes out of the prefill."""
    decode_s = 0.0
    if output_tokens > 1:
        decode_s = iterations_s(timing, output_tokens - 1, 1, input_tokens + 1)
    return timing.prefill_s(input_tokens) + decode_s


def _check(setup: SimSetup) -> None:
    if setup.faults:
        raise UsageError("bounds need a cluster without faults")
    size_bytes = {}
    for model in setup.models:
        size_bytes[model.checkpoint.model] = model.checkpoint.size_bytes
        if model.num_slots != 1:
            raise UsageError(
                f"bounds need one slot per instance, {model.checkpoint.model} has {model.num_slots}"
            )
    for server in setup.servers:
        for found in server.resident:
            if found.num_bytes != size_bytes.get(found.model, found.num_bytes):
                raise UsageError(f"bounds need whole models, {found} on {server.id} is not")


def first_load_s(oracle: Oracle, checkpoint: Checkpoint) -> float:
    """Of a model that nobody has loaded yet: from the nearest tier where it lies at the start."""
    times = []
    for server in oracle.setup.servers:
        tiers = [found.tier for found in server.resident if found.model == checkpoint.model]
        if could_hold(server.hardware, checkpoint):
            times.append(
                _nearest_s(oracle, checkpoint, server.hardware, max(tiers, default=REMOTE))
            )
    return min(times)


def _nearest_s(
    oracle: Oracle, checkpoint: Checkpoint, hardware: ServerHardware, tier: StorageTier
) -> float:
    """From that tier; several networks together may be faster."""
    load_s = oracle.least_load_s(checkpoint, hardware, tier)
    if oracle.powers.max_parts > 1:
        load_s = min(load_s, oracle.least_load_s(checkpoint, hardware, REMOTE))
    return load_s


def later_load_s(oracle: Oracle, checkpoint: Checkpoint) -> float:
    """From DRAM, if the model can come to rest in that of any server."""
    if not oracle.powers.caches:
        return first_load_s(oracle, checkpoint)
    times = []
    for server in oracle.setup.servers:
        if could_hold(server.hardware, checkpoint):
            fits = server.hardware.dram_pool_bytes >= checkpoint.size_bytes
            # A model that fits no DRAM may still have been put on any SSD.
            tier = DRAM if fits else SSD
            times.append(_nearest_s(oracle, checkpoint, server.hardware, tier))
    return min(times)


def earliest_starts_s(oracle: Oracle) -> list[float]:
    """Of each request: its arrival, or when the first load of its model can be over, for none
    begins before a request of that model has arrived; ahead of demand, none before 0.0."""
    loaded_at_s: dict[str, float] = {}
    for request in sorted(oracle.requests, key=lambda request: request.arrived_at_s):
        if request.checkpoint.model not in loaded_at_s:
            begins_at_s = 0.0 if oracle.powers.ahead else request.arrived_at_s
            load_s = first_load_s(oracle, request.checkpoint)
            loaded_at_s[request.checkpoint.model] = begins_at_s + load_s
    return [max(r.arrived_at_s, loaded_at_s[r.checkpoint.model]) for r in oracle.requests]


def could_hold(hardware: ServerHardware, checkpoint: Checkpoint) -> bool:
    """Whether an instance fits the server's GPUs."""
    room_bytes = checkpoint.num_gpus * hardware.gpu.memory_bytes
    return checkpoint.num_gpus <= hardware.num_gpus and checkpoint.size_bytes <= room_bytes
