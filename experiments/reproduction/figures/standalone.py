"""Results that need no grid of runs: figure 3's two servers, and consequences of the hardware."""

from collections.abc import Callable, Mapping
from math import isnan
from typing import Any

from experiments.benchmarks.loading.results import for_figures, read_measured
from experiments.composing import composed_run
from sllmcore.build import PolicySettings
from sllmcore.types import DRAM, SSD, Checkpoint, Request, Residency, StorageTier
from sllmcore.workload import WorkloadRequest
from sllmsim.catalog import dtype_named, gpu_named, model_named
from sllmsim.phases import PRESETS
from sllmsim.setup import ServerHardware, SimModel, SimServerSetup, SimSetup
from sllmsim.simulate import simulate
from sllmsim.timing import EngineEfficiency, roofline

GPU = "a40"
SSD_BYTES_PER_S = 6e9  # of configs/cluster/testbed_ii.yaml
NIC_BYTES_PER_S = 1.25e9
PCIE_BYTES_PER_S = 25e9
LOADERS = ("pytorch", "safetensors", "tensorflow", "serverlessllm")
LOADED_MODELS = (
    *("opt-2.7b", "opt-6.7b", "opt-13b", "opt-30b", "opt-66b"),
    *("llama-2-7b", "llama-2-13b", "llama-2-70b", "falcon-7b", "falcon-40b"),
)
ARRAY_BYTES_PER_S = 12e9  # RAID0-NVMe of testbed (i) [Q]
MEDIA_BYTES_PER_S: Mapping[str, float] = {
    "MinIO": 0.125e9,  # 1 Gbit/s [M]
    "SATA": 0.55e9,  # a SATA 3.0 drive: assumption
    "RAID0-SATA": 1.1e9,  # two of them
    "NVMe": 6e9,  # half of the array
    "RAID0-NVMe": ARRAY_BYTES_PER_S,
}
FIGURE_3_POLICIES = ("availability", "locality", "shepherd", "serverlessllm")


def two_servers() -> dict[str, Any]:
    """Return the timelines of figure 3, by policy.

    Model A runs on server 2, which holds model B in DRAM, when a request for B arrives. Server 1 is
    idle and holds A too. A short request for C keeps server 1 busy while A arrives.
    """
    return {"timelines": {policy: _timeline(policy) for policy in FIGURE_3_POLICIES}}


def _timeline(policy: str) -> list[dict[str, Any]]:
    requests = [
        WorkloadRequest(Request("c", "C", 0.0, 64), 20),
        WorkloadRequest(Request("a", "A", 0.1, 64), 300),
        WorkloadRequest(Request("b", "B", 4.0, 64), 100),
    ]
    result = simulate(PolicySettings(policy), _figure_3_setup(), requests)
    arrived, instances = result.recorder.requests, result.recorder.instances
    rows: list[dict[str, Any]] = []
    for index in range(len(instances)):
        row = {name: column[index] for name, column in instances.columns.items()}
        rows.append(
            {
                "kind": "instance",
                "model": row["model"],
                "server": row["server_id"],
                "source": row["source"],
                "launched_at_s": row["launched_at_s"],
                "ready_at_s": row["ready_at_s"],
                "busy_s": row["busy_s"],
                "ended_at_s": None if isnan(float(row["ended_at_s"])) else row["ended_at_s"],
            }
        )
    for index in range(len(arrived)):
        row = {name: column[index] for name, column in arrived.columns.items()}
        names = ("model", "arrived_at_s", "started_at_s", "ended_at_s", "pause_s")
        rows.append({"kind": "request", **{name: row[name] for name in names}})
    return rows


def _figure_3_setup() -> SimSetup:
    gpu, model, dtype = gpu_named(GPU), model_named("opt-6.7b"), dtype_named("fp16")
    size_bytes = model.weight_bytes(dtype)
    timing = roofline(model=model, dtype=dtype, gpu=gpu, num_gpus=1, efficiency=EngineEfficiency())
    hardware = ServerHardware(
        gpu=gpu,
        num_gpus=1,
        dram_pool_bytes=4 * size_bytes,
        ssd_bytes=8 * size_bytes,
        ssd_read_bytes_per_s=SSD_BYTES_PER_S,
        ssd_write_bytes_per_s=SSD_BYTES_PER_S,
        nic_bytes_per_s=NIC_BYTES_PER_S,
        pcie_bytes_per_s=PCIE_BYTES_PER_S,
    )

    def held(*tiers: tuple[StorageTier, str]) -> tuple[Residency, ...]:
        return tuple(Residency(tier, name, size_bytes) for tier, name in tiers)

    on_ssd = ((SSD, "A"), (SSD, "B"), (SSD, "C"))
    return SimSetup(
        servers=(
            SimServerSetup("server 1", hardware, held(*on_ssd, (DRAM, "C"), (DRAM, "A"))),
            SimServerSetup("server 2", hardware, held(*on_ssd, (DRAM, "B"), (DRAM, "A"))),
        ),
        models=tuple(SimModel(Checkpoint(name, size_bytes, 1), timing) for name in "ABC"),
    )


def loaders() -> dict[str, Any]:
    """Return loading times by the hardware model: bytes / (share * bandwidth of the array).

    The share is the loader's. `measured` has the stored results of `experiments.loading`; None if
    there are none.
    """
    shares = {
        name: composed_run([f"driver=loader_{name}"]).driver.loader.ssd_efficiency
        for name in LOADERS
    }
    dtype = dtype_named("fp16")
    sizes = {name: model_named(name).weight_bytes(dtype) for name in LOADED_MODELS}
    measured = read_measured()
    return {
        "origin": "hardware model",
        "measured": None if measured is None else for_figures(measured),
        "array_bytes_per_s": ARRAY_BYTES_PER_S,
        "size_bytes": sizes,
        "seconds": {
            loader: {name: size / (share * ARRAY_BYTES_PER_S) for name, size in sizes.items()}
            for loader, share in shares.items()
        },
        # a loader's speed is limited by its share of the fastest medium, on slower media too
        "bandwidth_use": {
            loader: {
                medium: min(1.0, share * ARRAY_BYTES_PER_S / rate)
                for medium, rate in MEDIA_BYTES_PER_S.items()
            }
            for loader, share in shares.items()
        },
        "lora_seconds": {
            loader: 1e9 / (share * ARRAY_BYTES_PER_S) for loader, share in shares.items()
        },
    }


def phases() -> dict[str, Any]:
    """Return the median phases of a cold start of OPT-6.7B from SSD, by preset."""
    size_bytes = model_named("opt-6.7b").weight_bytes(dtype_named("fp16"))
    transfer_s = size_bytes / SSD_BYTES_PER_S
    presets = {}
    for name, model in PRESETS.items():
        start = model.median()
        rows = [
            {"kind": str(p.kind), "order": str(p.order), "seconds": p.duration_s}
            for p in start.by_phase
        ]
        presets[name] = {"phases": rows, "startup_s": start.startup_s(transfer_s)}
    return {"origin": "hardware model", "transfer_s": transfer_s, "presets": presets}


STANDALONE: Mapping[str, Callable[[], dict[str, Any]]] = {
    "fig3": two_servers,
    "loaders": loaders,
    "phases": phases,
}
