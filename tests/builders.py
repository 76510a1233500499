"""Small clusters, models and controllers for tests.

All sizes and speeds are powers of two, so that equal times are exactly equal.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from sllmcore.build import PolicySettings, build_controller
from sllmcore.cluster.state import ClusterState
from sllmcore.commands import Command
from sllmcore.controller import Controller
from sllmcore.events import Event, ModelDeployed, RequestArrived, ServerJoined
from sllmcore.types import Checkpoint, Request, Residency, ServerSpec, StorageTier
from sllmcore.workload import WorkloadRequest
from sllmsim.catalog import GpuSpec
from sllmsim.catalog.gpus import Architecture
from sllmsim.cluster import SimCluster
from sllmsim.control_link import Sink
from sllmsim.fault_player import FaultPlayer
from sllmsim.setup import ServerHardware, SimModel, SimServerSetup, SimSetup
from sllmsim.timing.linear import LinearTiming

REMOTE_BYTES_PER_S = 4.0
SSD_BYTES_PER_S = 8.0
DRAM_BYTES_PER_S = 16.0
GPU_BYTES = 32

# A first token after half a second, a further one every quarter: 4 s for 15 tokens.
TIMING = LinearTiming(fixed_s=0.25, prefill_fixed_s=0.5, prefill_per_token_s=0.0)


def gpu_of(memory_bytes: int = GPU_BYTES) -> GpuSpec:
    """Return a GPU type of which only the memory matters."""
    return GpuSpec(
        name="toy",
        architecture=Architecture.AMPERE,
        memory_bytes=memory_bytes,
        memory_bytes_per_s=1.0,
        fp16_flops=1.0,
        fp8_flops=None,
        int8_flops=None,
        pcie_generation=4,
        pcie_bytes_per_s=DRAM_BYTES_PER_S,
        nvlink_bytes_per_s=None,
        busy_w=2.0,
        idle_w=1.0,
        resident_w=1.0,
        cost_per_hour_usd=1.0,
    )


def hardware_of(num_gpus: int = 1, dram_bytes: int = 64, ssd_bytes: int = 256) -> ServerHardware:
    """Return a server type that loads 4 bytes/s from remote storage, 8 from SSD, 16 per GPU."""
    return ServerHardware(
        gpu=gpu_of(),
        num_gpus=num_gpus,
        dram_pool_bytes=dram_bytes,
        ssd_bytes=ssd_bytes,
        ssd_read_bytes_per_s=SSD_BYTES_PER_S,
        ssd_write_bytes_per_s=SSD_BYTES_PER_S,
        nic_bytes_per_s=REMOTE_BYTES_PER_S,
        pcie_bytes_per_s=DRAM_BYTES_PER_S,
    )


def spec_of(
    server_id: str, num_gpus: int = 1, dram_bytes: int = 64, ssd_bytes: int = 256
) -> ServerSpec:
    """Return the spec that a server of `hardware_of` declares."""
    return hardware_of(num_gpus, dram_bytes, ssd_bytes).spec(server_id)


def in_dram(model: str, num_bytes: int) -> Residency:
    return Residency(StorageTier.DRAM, model, num_bytes)


def on_ssd(model: str, num_bytes: int) -> Residency:
    return Residency(StorageTier.SSD, model, num_bytes)


def request_of(number: int, model: str, at_s: float = 0.0, input_tokens: int = 4) -> Request:
    return Request(f"r{number}", model, at_s, input_tokens)


def job_of(
    number: int, model: str, at_s: float, output_tokens: int = 15, cancel_at_s: float | None = None
) -> WorkloadRequest:
    return WorkloadRequest(request_of(number, model, at_s), output_tokens, cancel_at_s)


def setup_of(
    servers: Sequence[SimServerSetup], checkpoints: Sequence[Checkpoint], num_slots: int = 1
) -> SimSetup:
    return SimSetup(tuple(servers), tuple(SimModel(c, TIMING, num_slots) for c in checkpoints))


def state_of(
    specs: Iterable[tuple[ServerSpec, tuple[Residency, ...]]], checkpoints: Iterable[Checkpoint]
) -> ClusterState:
    """Return the state of a cluster, for schedulers and estimators."""
    state = ClusterState()
    for checkpoint in checkpoints:
        state.checkpoints[checkpoint.model] = checkpoint
        state.num_slots[checkpoint.model] = 1
    for spec, resident in specs:
        state.add_server(spec, resident)
    return state


@dataclass(slots=True)
class Bench:
    """A controller that a test feeds with events; its state is audited after each."""

    controller: Controller
    log: list[tuple[float, Event, list[Command]]] = field(default_factory=list)

    def handle(self, event: Event, now_s: float = 0.0) -> list[Command]:
        """Handle an event, audit the state, log and return the commands."""
        commands = self.controller.handle(event, now_s)
        self.log.append((now_s, event, commands))
        self.controller.audit()
        return commands

    def arrive(self, number: int, model: str, now_s: float = 0.0) -> list[Command]:
        """Handle the arrival of request `r<number>`."""
        return self.handle(RequestArrived(request_of(number, model, now_s)), now_s)


def bench_of(
    policy: PolicySettings,
    checkpoints: Iterable[Checkpoint],
    servers: Iterable[tuple[ServerSpec, tuple[Residency, ...]]],
    num_slots: int = 1,
) -> Bench:
    """Return a controller with these models and servers."""
    bench = Bench(build_controller(policy, Random(1)))
    for checkpoint in checkpoints:
        bench.handle(ModelDeployed(checkpoint, num_slots))
    for spec, resident in servers:
        bench.handle(ServerJoined(spec, resident))
    return bench


def sim_of(
    policy: PolicySettings,
    setup: SimSetup,
    jobs: Iterable[WorkloadRequest],
    sinks: Sequence[Sink] = (),
) -> SimCluster:
    """Return a simulation that is ready to run, with its faults."""
    cluster = SimCluster(build_controller(policy, Random(1)), setup, jobs, sinks)
    FaultPlayer(cluster, setup.faults)
    return cluster
