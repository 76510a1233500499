"""Measure or profile one simulation in this process."""

import cProfile
import gc
import pstats
import resource
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.benchmarks.speed.workload import NUM_MODELS, Traffic, setup, workload
from experiments.simulation.journal_file import written_journal
from sllmcore.build import PolicySettings
from sllmcore.workload import WorkloadRequest
from sllmsim.clock import SimClock
from sllmsim.setup import SimSetup
from sllmsim.simulate import SimResult, simulate

NUM_TIMEOUTS = 100_000


@dataclass(frozen=True, slots=True)
class SpeedCell:
    """Parameters of one measurement. `journal`: whether the run writes its journal."""

    traffic: Traffic
    gpus: int
    requests: int
    journal: bool


def timeouts_per_cpu_s() -> float:
    """Measure bare SimPy timeouts with a callback, 100 of them pending, to compare CPUs."""
    clock, fired = SimClock(), Counter[str]()

    def again(_: object) -> None:
        fired["timeouts"] += 1
        if fired["timeouts"] < NUM_TIMEOUTS:
            clock.call_in(1.0, again)

    for i in range(100):
        clock.call_in(i / 100, again)
    began_s = time.process_time()
    clock.run()
    return fired["timeouts"] / (time.process_time() - began_s)


def measured(cell: SpeedCell) -> dict[str, Any]:
    """Simulate and return a row of speed.json.

    The time does not include drawing the requests and building the setup. Peak memory is that of
    the process: simulator, libraries and the list of requests.
    """
    truth, requests = _inputs(cell)
    before = timeouts_per_cpu_s()
    gc.collect()
    gc.freeze()  # collections during the run must not walk over the list of requests
    began_s = time.process_time()
    result = _run(cell, truth, requests)
    cpu_s = time.process_time() - began_s
    simpy_rate = (before + timeouts_per_cpu_s()) / 2
    return {
        "traffic": cell.traffic,
        "gpus": cell.gpus,
        "models": NUM_MODELS,
        "journal": cell.journal,
        "requests": cell.requests,
        "requests_per_cpu_s": cell.requests / cpu_s,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "simpy_timeouts_per_cpu_s": simpy_rate,
        "requests_per_simpy_timeout": cell.requests / cpu_s / simpy_rate,
        "events_per_request": result.num_events / cell.requests,
        "loads_per_request": sum(result.summary.loads.values()) / cell.requests,
        "migrations": result.summary.migrations,
        "completed": result.summary.completed,
    }


def _inputs(cell: SpeedCell) -> tuple[SimSetup, list[WorkloadRequest]]:
    requests = workload(cell.traffic, cell.gpus, cell.requests)
    return setup(cell.traffic, cell.gpus), requests


def _run(cell: SpeedCell, truth: SimSetup, requests: list[WorkloadRequest]) -> SimResult:
    policy = PolicySettings()
    with ExitStack() as stack:
        sinks = []
        if cell.journal:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            journal = written_journal(folder / "journal.jsonl.zst", policy, 0)
            sinks.append(stack.enter_context(journal).observe)
        return simulate(policy, truth, requests, sinks=sinks)


def profiled(cell: SpeedCell) -> list[dict[str, Any]]:
    """Profile with cProfile and return the 20 modules with the largest shares of the time."""
    truth, requests = _inputs(cell)
    profiler = cProfile.Profile()
    profiler.enable()
    _run(cell, truth, requests)
    profiler.disable()
    shares: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for (file, _, _), (_, num_calls, own_s, *_) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        module = _module(file)
        shares[module] += own_s
        calls[module] += num_calls
    total_s = shares.total()
    return [
        {
            "traffic": cell.traffic,
            "gpus": cell.gpus,
            "module": module,
            "share": own_s / total_s,
            "calls_per_request": calls[module] / cell.requests,
        }
        for module, own_s in shares.most_common(20)
    ]


def _module(file: str) -> str:
    path = Path(file)
    for part in ("sllmcore", "sllmsim", "experiments", "traces", "simpy"):
        if part in path.parts:
            return ".".join([*path.parts[path.parts.index(part) : -1], path.stem])
    return "built in" if file == "~" else path.stem
