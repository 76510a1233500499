"""One measurement, in the process that runs it."""

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

from experiments.benchmarks.speed.job import NUM_MODELS, Traffic, jobs, setup
from experiments.simulation.journal_file import written_journal
from sllmcore.build import PolicySettings
from sllmcore.workload import WorkloadRequest
from sllmsim.clock import SimClock
from sllmsim.setup import SimSetup
from sllmsim.simulate import SimResult, simulate

NUM_TIMEOUTS = 100_000


@dataclass(frozen=True, slots=True)
class SpeedCell:
    """What is measured."""

    traffic: Traffic
    gpus: int
    requests: int
    journal: bool


def timeouts_per_cpu_s() -> float:
    """Bare SimPy timeouts with a callback, 100 of them pending: a yardstick for the CPU."""
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
    """One row. Drawing the requests and building the setup are not part of the time.

    Peak memory is the process's: the simulator, its libraries, and the list of requests.
    """
    truth, todo = setup(cell.traffic, cell.gpus), jobs(cell.traffic, cell.gpus, cell.requests)
    before = timeouts_per_cpu_s()
    gc.collect()
    gc.freeze()  # the list of requests is the measurement's, not the simulator's, to walk over
    began_s = time.process_time()
    result = _run(cell, truth, todo)
    cpu_s = time.process_time() - began_s
    yardstick = (before + timeouts_per_cpu_s()) / 2
    return {
        "traffic": cell.traffic,
        "gpus": cell.gpus,
        "models": NUM_MODELS,
        "journal": cell.journal,
        "requests": cell.requests,
        "requests_per_cpu_s": cell.requests / cpu_s,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "simpy_timeouts_per_cpu_s": yardstick,
        "requests_per_simpy_timeout": cell.requests / cpu_s / yardstick,
        "events_per_request": result.num_events / cell.requests,
        "loads_per_request": sum(result.summary.loads.values()) / cell.requests,
        "migrations": result.summary.migrations,
        "completed": result.summary.completed,
    }


def _run(cell: SpeedCell, truth: SimSetup, todo: list[WorkloadRequest]) -> SimResult:
    policy = PolicySettings()
    with ExitStack() as stack:
        sinks = []
        if cell.journal:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            journal = written_journal(folder / "journal.jsonl.zst", policy, 0)
            sinks.append(stack.enter_context(journal).observe)
        return simulate(policy, truth, todo, sinks=sinks)


def profiled(cell: SpeedCell) -> list[dict[str, Any]]:
    """Shares of the time by module, largest first, as cProfile sees them."""
    truth, todo = setup(cell.traffic, cell.gpus), jobs(cell.traffic, cell.gpus, cell.requests)
    profiler = cProfile.Profile()
    profiler.enable()
    _run(cell, truth, todo)
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
