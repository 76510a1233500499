"""The simulated cluster and requests of the benchmark: 1,000 models on servers of 4 A40 GPUs.

Migration is on and the request rate per GPU is fixed. Each checkpoint (OPT-6.7B, fp16) is on the
SSDs of at most 8 servers; a DRAM pool holds 30 checkpoints.

- `azure_like`: popularity and burstiness of Azure Functions (the top 1 % of the models get most of
  the traffic), lengths of Azure's LLM conversations, up to 8 requests per instance;
- `cold`: even popularity and one request per instance: nearly every request loads its model.
"""

from typing import Literal

from sllmcore.types import SSD, Checkpoint, Residency
from sllmcore.workload import WorkloadRequest
from sllmsim.catalog import Dtype, gpu_named, model_named
from sllmsim.setup import ServerHardware, SimModel, SimServerSetup, SimSetup
from sllmsim.timing import roofline
from traces.popularity import Popularity
from traces.spec import WorkloadSpec
from traces.workload import workload_requests

NUM_MODELS = 1000
GPUS_PER_SERVER = 4
Traffic = Literal["azure_like", "cold"]
REQUESTS_PER_GPU_S = {"azure_like": 0.25, "cold": 0.05}
NUM_SLOTS = {"azure_like": 8, "cold": 1}
MAX_REPLICAS = 8  # of a checkpoint, on the SSDs of the cluster


def setup(traffic: Traffic, gpus: int, num_models: int = NUM_MODELS) -> SimSetup:
    """Return servers as in testbed (ii) of ServerlessLLM, with the checkpoints on their SSDs."""
    gpu, model = gpu_named("a40"), model_named("opt-6.7b")
    size_bytes = model.weight_bytes(Dtype.FP16)
    hardware = ServerHardware(
        gpu=gpu,
        num_gpus=GPUS_PER_SERVER,
        dram_pool_bytes=400 * 10**9,
        ssd_bytes=4 * 10**12,
        ssd_read_bytes_per_s=6e9,
        ssd_write_bytes_per_s=3e9,
        nic_bytes_per_s=1.25e9,
        pcie_bytes_per_s=25e9,
    )
    timing = roofline(model, Dtype.FP16, gpu, 1)
    num_servers = gpus // GPUS_PER_SERVER
    fit = hardware.ssd_bytes // size_bytes
    per_server = min(fit, num_models, -(-MAX_REPLICAS * num_models // num_servers))
    servers = []
    for server in range(num_servers):
        held = [f"m{(server * per_server + i) % num_models}" for i in range(per_server)]
        resident = tuple(Residency(SSD, name, size_bytes) for name in held)
        servers.append(SimServerSetup(f"s{server}", hardware, resident))
    slots = NUM_SLOTS[traffic]
    models = [SimModel(Checkpoint(f"m{i}", size_bytes), timing, slots) for i in range(num_models)]
    return SimSetup(tuple(servers), tuple(models))


def workload(
    traffic: Traffic, gpus: int, requests: int, num_models: int = NUM_MODELS
) -> list[WorkloadRequest]:
    """Return the requests. They depend on the arguments only."""
    even = Popularity(kind="lognormal", sigma=1.0)
    spec = WorkloadSpec(
        kind="azure_like" if traffic == "azure_like" else "poisson",
        pattern="functions",
        target_rps=REQUESTS_PER_GPU_S[traffic] * gpus,
        max_requests=requests,
        lengths="azure_conv",
        context_limit_tokens=2048,
        popularity=Popularity() if traffic == "azure_like" else even,
    )
    return list(workload_requests(spec, [f"m{i}" for i in range(num_models)], seed=0))
