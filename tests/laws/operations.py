"""Counts of operations in a simulation: calls instead of seconds, so the same on every machine."""

import sys
from dataclasses import dataclass
from random import Random
from types import FrameType

from sllmcore.build import PolicySettings
from sllmcore.controller.pending import PendingQueue
from sllmcore.estimator import BandwidthEstimator
from sllmcore.types import Checkpoint, Request
from sllmcore.workload import WorkloadRequest
from sllmsim.clock import SimClock
from sllmsim.setup import SimModel, SimServerSetup, SimSetup
from sllmsim.timing.linear import LinearTiming
from tests.builders import hardware_of, on_ssd, sim_of

TIMING = LinearTiming(fixed_s=0.03125, prefill_per_token_s=0.0)
GPUS = 4
COPIES = 4  # of each model, on as many servers


@dataclass(frozen=True, slots=True)
class Operations:
    """Counts per request.

    Attributes:
        calls: Calls of functions of the core.
        estimates: Estimates of loading times.
        timers: Timers set in the simulation kernel.
        walked: Requests visited among those parked at servers.
    """

    calls: float
    estimates: float
    timers: float
    walked: float

    def at_most(self, factor: float, other: "Operations") -> bool:
        pairs = (
            (self.calls, other.calls),
            (self.estimates, other.estimates),
            (self.timers, other.timers),
            (self.walked, other.walked + 1),
        )
        return all(mine <= factor * theirs for mine, theirs in pairs)


def crowded(
    num_servers: int, num_models: int, num_requests: int, load: float
) -> tuple[SimSetup, list[WorkloadRequest]]:
    """Return models of skewed popularity on SSDs, and requests; `load` 1 saturates the GPUs."""
    rng = Random(0)
    models = [Checkpoint(f"m{i}", 16, 1 + (i % 7 == 0)) for i in range(num_models)]
    holders: list[list[Checkpoint]] = [[] for _ in range(num_servers)]
    for i, model in enumerate(models):
        for copy in range(min(COPIES, num_servers)):
            holders[(i + copy) % num_servers].append(model)
    servers = tuple(
        SimServerSetup(
            f"s{i}",
            hardware_of(GPUS, 128, 16 * len(held)),
            tuple(on_ssd(model.model, 16) for model in held),
        )
        for i, held in enumerate(holders)
    )
    mean_s = 2.0 + 4.0  # a load, and 128 tokens
    rate, at_s, jobs = load * num_servers * GPUS / mean_s, 0.0, []
    for number in range(num_requests):
        at_s += rng.expovariate(rate)
        name = models[min(int(num_models * rng.random() ** 2), num_models - 1)].model
        jobs.append(WorkloadRequest(Request(f"r{number}", name, at_s, 8), rng.randint(1, 255)))
    setup = SimSetup(servers, tuple(SimModel(model, TIMING) for model in models))
    return setup, jobs


def operations(
    policy: str,
    num_servers: int = 8,
    num_models: int = 64,
    num_requests: int = 400,
    load: float = 0.75,
) -> Operations:
    """Run a crowded cluster and count its operations."""
    setup, jobs = crowded(num_servers, num_models, num_requests, load)
    cluster = sim_of(PolicySettings(name=policy), setup, jobs)
    counts = {"calls": 0, "estimates": 0, "timers": 0, "walked": 0}
    parked = PendingQueue.parked.__code__
    estimate, timer = BandwidthEstimator.estimate.__code__, SimClock.call_in.__code__

    def count(frame: FrameType, kind: str, answer: object) -> None:
        if kind == "call":
            code = frame.f_code
            counts["estimates"] += code is estimate
            counts["timers"] += code is timer
            counts["calls"] += "sllmcore" in code.co_filename
        elif kind == "return" and frame.f_code is parked:
            assert isinstance(answer, list)
            counts["walked"] += len(answer)

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        cluster.run()
    finally:
        sys.setprofile(before)
    return Operations(*(number / num_requests for number in counts.values()))
