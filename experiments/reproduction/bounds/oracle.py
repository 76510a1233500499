"""The knowledge of the future: all arrivals and the duration of each inference.

An `Oracle` is made from a driver's setup and workload, and passed to the bounds. No scheduler has
one: a controller receives requests only, one at a time.
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
    """A request and the duration of its inference.

    Args:
        service_s: Seconds from start to last token when the inference runs alone.
    """

    id: str
    checkpoint: Checkpoint
    arrived_at_s: float
    service_s: float


@dataclass(frozen=True, slots=True)
class Powers:
    """The actions that a class of policies may take.

    Args:
        ahead: Launch instances without a waiting request (prewarming).
        max_parts: Most servers that may fetch the parts of a load; they serve together.
        caches: Leave copies in DRAM or on SSD.
    """

    ahead: bool = False
    max_parts: int = 1
    caches: bool = True


ON_DEMAND = Powers()


def powers_of(policy: PolicySettings) -> Powers:
    """Return the powers of the class that a policy belongs to."""
    parts = policy.splitting.max_parts if policy.registered.splits_loads else 1
    residency = built_residency(policy)
    caches = bool(residency.cache_in(REMOTE) or residency.cache_in(SSD))
    return Powers(policy.prewarmer_name is not None, parts, caches)


@dataclass(frozen=True, slots=True)
class Oracle:
    """The hardware, all requests to come, and the powers of the policies to bound."""

    setup: SimSetup
    requests: tuple[KnownRequest, ...]
    powers: Powers = ON_DEMAND

    @property
    def num_gpus(self) -> int:
        """Number of GPUs of all servers."""
        return sum(server.hardware.num_gpus for server in self.setup.servers)

    def least_load_s(
        self, checkpoint: Checkpoint, hardware: ServerHardware, tier: StorageTier
    ) -> float:
        """Return the least time of a load from a tier: on its path, without other loads."""
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
    setup: SimSetup, requests: Iterable[WorkloadRequest], powers: Powers = ON_DEMAND
) -> Oracle:
    """Return the oracle of a simulation.

    Args:
        powers: Powers of the policies to bound.

    Raises:
        UsageError: The bounds do not hold: there are faults, clients that cancel, several slots
            per instance, or parts of models in a tier.
    """
    _check(setup)
    models = {model.checkpoint.model: model for model in setup.models}
    known = []
    for item in requests:
        request = item.request
        if item.cancel_at_s is not None:
            raise UsageError(
                f"bounds need patient clients, but {request.id} is cancelled at {item.cancel_at_s} "
                "s: set workload.patience_s=null"
            )
        model = models[request.model]
        service_s = _service_s(model.timing, request.input_tokens, item.output_tokens)
        known.append(KnownRequest(request.id, model.checkpoint, request.arrived_at_s, service_s))
    return Oracle(setup, tuple(known), powers)


def _service_s(timing: InferenceTiming, input_tokens: int, output_tokens: int) -> float:
    """Return the seconds of an inference; the prefill yields the first token."""
    decode_s = 0.0
    if output_tokens > 1:
        decode_s = iterations_s(timing, output_tokens - 1, 1, input_tokens + 1)
    return timing.prefill_s(input_tokens) + decode_s


def _check(setup: SimSetup) -> None:
    if setup.faults:
        raise UsageError(
            f"bounds need a cluster without faults, got {len(setup.faults)}: set "
            "driver.fault_horizon_s=null"
        )
    size_bytes = {}
    for model in setup.models:
        size_bytes[model.checkpoint.model] = model.checkpoint.size_bytes
        if model.num_slots != 1:
            raise UsageError(
                f"bounds need one slot per instance, but {model.checkpoint.model} has "
                f"{model.num_slots}: set num_slots=1"
            )
    for server in setup.servers:
        for found in server.resident:
            if found.num_bytes != size_bytes.get(found.model, found.num_bytes):
                raise UsageError(
                    f"bounds need whole models in the tiers, but {server.id} holds "
                    f"{found.num_bytes} of {size_bytes[found.model]} bytes of {found.model}"
                )


def first_load_s(oracle: Oracle, checkpoint: Checkpoint) -> float:
    """Return the least time of a model's first load: from the nearest tier that holds it."""
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
    """Return the least time of a load from a tier, or over several networks if faster."""
    load_s = oracle.least_load_s(checkpoint, hardware, tier)
    if oracle.powers.max_parts > 1:
        load_s = min(load_s, oracle.least_load_s(checkpoint, hardware, REMOTE))
    return load_s


def later_load_s(oracle: Oracle, checkpoint: Checkpoint) -> float:
    """Return the least time of a later load: from DRAM, if the model fits into any server's."""
    if not oracle.powers.caches:
        return first_load_s(oracle, checkpoint)
    times = []
    for server in oracle.setup.servers:
        if could_hold(server.hardware, checkpoint):
            fits = server.hardware.dram_pool_bytes >= checkpoint.size_bytes
            # A model that does not fit into DRAM may still have been put on any SSD.
            tier = DRAM if fits else SSD
            times.append(_nearest_s(oracle, checkpoint, server.hardware, tier))
    return min(times)


def earliest_starts_s(oracle: Oracle) -> list[float]:
    """Return the earliest possible start of each request.

    It is the arrival, or the earliest end of the model's first load, whichever is later. That load
    begins at the first arrival of a request of the model, or at 0 with prewarming.
    """
    loaded_at_s: dict[str, float] = {}
    for request in sorted(oracle.requests, key=lambda request: request.arrived_at_s):
        if request.checkpoint.model not in loaded_at_s:
            begins_at_s = 0.0 if oracle.powers.ahead else request.arrived_at_s
            load_s = first_load_s(oracle, request.checkpoint)
            loaded_at_s[request.checkpoint.model] = begins_at_s + load_s
    return [max(r.arrived_at_s, loaded_at_s[r.checkpoint.model]) for r in oracle.requests]


def could_hold(hardware: ServerHardware, checkpoint: Checkpoint) -> bool:
    """Return True if an instance fits on the server's GPUs."""
    memory_bytes = checkpoint.num_gpus * hardware.gpu.memory_bytes
    return checkpoint.num_gpus <= hardware.num_gpus and checkpoint.size_bytes <= memory_bytes
