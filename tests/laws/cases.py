"""Random cases: clusters, requests and faults in which events coincide.

Cases have few GPUs, small tiers, models of several GPUs, and times on a grid of half seconds. A
case is drawn from one seed and three sizes, which Hypothesis draws. It shrinks the sizes. Each part
of a case has random numbers of its own, so that a smaller case is the same case with fewer parts.
"""

from dataclasses import dataclass, replace
from random import Random

from hypothesis import strategies as st

from sllmcore.build import POLICIES, PolicySettings
from sllmcore.controller import ControllerSettings
from sllmcore.prewarming import PrewarmSettings
from sllmcore.residency import LruResidency
from sllmcore.scheduling.hydraserve import SplitSettings
from sllmcore.types import Checkpoint, Residency, StorageTier
from sllmcore.workload import WorkloadRequest
from sllmsim.faults import (
    ControllerCrash,
    EngineCrash,
    Fault,
    LinkLoss,
    LoadFailure,
    ServerCrash,
    ServerLeave,
    SlowDisk,
)
from sllmsim.phases import Duration, Order, PhaseKind, PhaseModel, PhaseSpec
from sllmsim.setup import LoaderProfile, MigrationSettings, SimModel, SimServerSetup, SimSetup
from sllmsim.timing.linear import LinearTiming
from tests.builders import hardware_of, job_of

_GPU_SHARES = (8, 8, 16, 32)  # bytes per GPU of a model; a GPU has 32
_PHASED = PhaseModel(
    "phased",
    (
        PhaseSpec(PhaseKind.PROVISION, Order.BEFORE, Duration(0.5), "none"),
        PhaseSpec(PhaseKind.ENGINE_INIT, Order.OVERLAPPED, Duration(1.0), "none"),
        PhaseSpec(PhaseKind.GRAPH, Order.AFTER, Duration(1.5), "none"),
    ),
)


@dataclass(frozen=True, slots=True)
class Case:
    """A policy, a simulated cluster and its requests."""

    policy: PolicySettings
    setup: SimSetup
    jobs: tuple[WorkloadRequest, ...]


@dataclass(frozen=True, slots=True)
class CaseSize:
    """The sizes that Hypothesis shrinks."""

    num_servers: int
    num_jobs: int
    num_faults: int


def cases(max_faults: int = 0, max_jobs: int = 24) -> st.SearchStrategy[Case]:
    """Return cases of 1 to 4 servers."""
    sizes = st.builds(
        CaseSize, st.integers(1, 4), st.integers(1, max_jobs), st.integers(0, max_faults)
    )
    return st.builds(case_of, st.integers(0, 2**32), sizes)


def case_of(seed: int, size: CaseSize) -> Case:
    """Return the case of this seed and size. Half of the cases are built to cause migrations."""
    rng = Random(f"{seed}/cluster")
    max_gpus = rng.choice([1, 2, 2, 3, 4])
    models = _models(rng, max_gpus)
    timing = LinearTiming(
        fixed_s=rng.choice([0.25, 0.0625]),
        per_request_s=rng.choice([0.0, 0.25]),
        prefill_fixed_s=rng.choice([0.0, 0.5]),
        prefill_per_token_s=rng.choice([0.0, 0.03125]),
    )
    slots = rng.choice([1, 1, 2, 3])
    lopsided = rng.random() < 0.5
    server_of = _lopsided_server if lopsided else _server
    rests = SimSetup(
        tuple(server_of(f"{seed}/s{i}", i, models, max_gpus) for i in range(size.num_servers)),
        tuple(SimModel(model, timing, slots, kv_bytes_per_token=1) for model in models),
        storage_bytes_per_s=rng.choice([None, 4.0]),
        phases=rng.choice([PhaseModel("paper"), PhaseModel("paper"), _PHASED]),
        loader=LoaderProfile(pipelined=rng.random() < 0.7),
        migration=MigrationSettings(
            strategy=Random(f"{seed}/strategy").choice(["replay", "copy", "auto"]),
            message_s=rng.choice([0.0, 0.125]),
            stop_gap_tokens=rng.choice([0, 2, 16]),
            max_rounds=rng.choice([1, 8]),
        ),
        recovers_tokens=rng.random() < 0.5,
    )
    policy = policy_of(Random(f"{seed}/policy"))
    if lopsided and rng.random() < 0.7:
        policy = replace(policy, name="serverlessllm", max_candidates=8, max_room_servers=4)
    faults = tuple(
        _fault(Random(f"{seed}/fault{i}"), size.num_servers) for i in range(size.num_faults)
    )
    setup = replace(rests, faults=tuple(sorted(faults, key=lambda fault: fault.at_s)))
    return Case(policy, setup, _jobs(seed, size.num_jobs, models))


def _models(rng: Random, max_gpus: int) -> tuple[Checkpoint, ...]:
    """Return two to four models. The first needs one GPU, so that some model always fits."""
    counts = [1] + [rng.randint(1, max_gpus) for _ in range(rng.randint(1, 3))]
    return tuple(
        Checkpoint(name, num_gpus * rng.choice(_GPU_SHARES), num_gpus)
        for name, num_gpus in zip("ABCD", counts, strict=False)
    )


def _server(
    seed: str, number: int, models: tuple[Checkpoint, ...], max_gpus: int
) -> SimServerSetup:
    """Return a server. The first fits every model; tiers hold nothing, one model or all."""
    rng = Random(seed)
    num_gpus = max_gpus if number == 0 else rng.randint(1, max_gpus)
    rooms = {
        StorageTier.DRAM: rng.choice([0, 32, 64, 128]),
        StorageTier.SSD: rng.choice([0, 64, 256, 512]),
    }
    resident: list[Residency] = []
    for tier, room in rooms.items():
        left = room
        for model in rng.sample(models, rng.randint(0, len(models))):
            part = model.size_bytes // rng.choice([1, 1, 1, 2])
            if part <= left:
                resident.append(Residency(tier, model.model, part))
                left -= part
    hardware = hardware_of(num_gpus, rooms[StorageTier.DRAM], rooms[StorageTier.SSD])
    hardware = replace(hardware, gpus_per_uplink=rng.choice([1, 1, 2]))
    return SimServerSetup(f"s{number}", hardware, tuple(resident))


def _lopsided_server(
    seed: str, number: int, models: tuple[Checkpoint, ...], max_gpus: int
) -> SimServerSetup:
    """Return a server that causes migrations: the first has all models in DRAM, others on SSD."""
    num_gpus = max_gpus if number <= 1 else Random(seed).randint(1, max_gpus)
    dram_bytes, ssd_bytes = (512, 0) if number == 0 else (0, 512)
    tier = StorageTier.DRAM if number == 0 else StorageTier.SSD
    sample = Random(seed).sample(models, len(models) if number == 0 else 2)
    resident = tuple(Residency(tier, model.model, model.size_bytes) for model in sample)
    return SimServerSetup(f"s{number}", hardware_of(num_gpus, dram_bytes, ssd_bytes), resident)


def policy_of(rng: Random) -> PolicySettings:
    """Draw a policy, more often one that migrates or preempts. Some policies prewarm."""
    name = rng.choice([*POLICIES, *["serverlessllm"] * 5, "shepherd", "locality"])
    return PolicySettings(
        name=name,
        max_candidates=rng.choice([1, 2, 16, 16]),
        max_room_servers=rng.choice([1, 4, 4]),
        max_preemptions=rng.choice([1, 3]),
        residency=_residency(rng),
        controller=ControllerSettings(
            startup_timeout_s=rng.choice([2.0, 16.0, 128.0, 128.0, 128.0]),
            max_load_failures=rng.choice([1, 3]),
            sequential_loading=rng.random() < 0.7,
        ),
        prewarming=_prewarming(rng, name),
        splitting=SplitSettings(
            max_parts=rng.choice([1, 2, 4]),
            ttft_slo_s=rng.choice([2.0, 6.0, 1000.0]),
            margin_s=rng.choice([0.0, 2.0]),
        ),
    )


def _prewarming(rng: Random, policy: str) -> PrewarmSettings | None:
    """Draw windows so short that several end during a run."""
    if policy != "warmserve" and rng.random() < 0.8:
        return None
    window_s = rng.choice([1.0, 2.5, 6.0])
    return PrewarmSettings(window_s, window_s * rng.choice([1, 3, 20]), rng.choice([1, 2, 4]))


def _residency(rng: Random) -> LruResidency:
    """Draw no keep-alive, a short one or one by loading time; and whether it can be cut short."""
    keep = rng.choice(["none", "none", "short", "factor"])
    return LruResidency(
        keep_alive_s=rng.choice([0.0, 0.5, 3.0]) if keep == "short" else None,
        keep_alive_load_factor=rng.choice([0.0, 1.0]) if keep == "factor" else None,
        reclaims_idle=keep == "none" or rng.random() < 0.5,
        caches_dram=rng.random() < 0.7,
        caches_ssd=rng.random() < 0.7,
        partial=rng.random() < 0.5,
    )


def _fault(rng: Random, num_servers: int) -> Fault:
    at_s = rng.randrange(1, 40) / 2
    server_id = f"s{rng.randrange(num_servers)}"
    spell_s = rng.choice([0.5, 2.0, 6.0])
    kinds: list[Fault] = [
        ServerCrash(at_s, server_id, rng.choice([0.5, 4.0])),
        ServerCrash(at_s, server_id, None),
        ServerLeave(at_s, server_id),
        EngineCrash(at_s, server_id),
        EngineCrash(at_s, server_id),
        LoadFailure(at_s, server_id),
        LoadFailure(at_s, server_id),
        SlowDisk(at_s, server_id, rng.choice([0.25, 0.5]), spell_s),
        LinkLoss(at_s, server_id, spell_s),
        ControllerCrash(at_s, spell_s),
    ]
    return rng.choice(kinds)


def _jobs(seed: int, num_jobs: int, models: tuple[Checkpoint, ...]) -> tuple[WorkloadRequest, ...]:
    rng = Random(f"{seed}/jobs")
    span = rng.choice([4, 16, 48])  # half seconds: a burst or a spread
    share_impatient = rng.choice([0.0, 0.1, 0.5])
    drawn = []
    for number in range(num_jobs):
        rng = Random(f"{seed}/job{number}")
        at_s = rng.randrange(span) / 2
        patience_s = rng.choice([0.0, 0.5, 2.0, 6.0, 12.0])
        cancel_at_s = at_s + patience_s if rng.random() < share_impatient else None
        tokens = rng.choice([1, 2, 7, 15, 31, 63])
        drawn.append(
            job_of(
                number=number,
                model=rng.choice(models).model,
                at_s=at_s,
                output_tokens=tokens,
                cancel_at_s=cancel_at_s,
            )
        )
    return tuple(sorted(drawn, key=lambda job: job.request.arrived_at_s))
