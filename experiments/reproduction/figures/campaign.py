"""The runs of figures in parallel processes."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed

from experiments.config.run_config import RunConfig
from experiments.pool import run_pool
from experiments.reproduction.figures.grid import FigureRun
from experiments.reproduction.figures.latencies import Measured
from experiments.reproduction.figures.measures import measured
from experiments.reproduction.figures.store import ResultStore


def finished_runs(
    runs: Sequence[FigureRun], store: ResultStore, workers: int
) -> Iterator[tuple[FigureRun, str]]:
    """Run all, store each result, and yield each run as it ends with its error ("" if none)."""
    if not runs:
        return
    with run_pool(workers) as pool:
        futures = {
            pool.submit(timed_measurement, run.config, run.grid.measure): run for run in runs
        }
        try:
            for future in as_completed(futures):
                run = futures[future]
                problem = future.exception()
                if problem is None:
                    result, wall_s = future.result()
                    store.add(run.key, result, wall_s)
                yield run, "" if problem is None else f"{type(problem).__name__}: {problem}"
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def timed_measurement(config: RunConfig, measure: str) -> tuple[Measured, float]:
    """Simulate a run; return its numbers and the wall time in seconds."""
    began_s = time.perf_counter()
    return measured(config, measure), time.perf_counter() - began_s
