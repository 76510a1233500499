"""The regret of the runs of a comparison: mean delay - best bound."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from pyarrow import parquet

from experiments.config.run_config import run_config
from experiments.reproduction.bounds.best import standing_of
from experiments.reproduction.bounds.cost import RequestEnd, mean_delay_s, table_ends
from experiments.reproduction.bounds.oracle import oracle_of, powers_of
from experiments.reproduction.bounds.relaxed import all_remote, infinite_dram, uncached
from experiments.simulation.run_folder import CONFIG, REQUESTS, SUMMARY
from experiments.simulation.setup import policy_settings, sim_setup
from sllmcore.build import PolicySettings
from sllmcore.errors import ControlError, UsageError
from sllmsim.setup import SimSetup
from sllmsim.simulate import simulate
from traces.workload import workload_requests


@dataclass(frozen=True, slots=True)
class Regret:
    """The costs and bounds of a run: means per request, in seconds.

    Args:
        startup_s: Startup latency, up to the first start.
        delay_s: Startup latency, plus the time lost to migrations and preemptions.
        pooled_s: None if a request timed out, since this bound does not hold then.
        bound_s: The best bound for policies with the same powers.
        infinite_dram_s: Delay of the same policy with every model in every DRAM.
        all_remote_s: Delay of the same policy without caches.
    """

    label: str
    seed: int
    requests: int
    timed_out: int
    startup_s: float
    delay_s: float
    chains_s: float
    pooled_s: float | None
    bound_s: float
    regret_s: float
    infinite_dram_s: float
    all_remote_s: float


def regrets_of(folder: Path, on_done: Callable[[Regret], None]) -> list[Regret]:
    """Return the regret of each run of a comparison; simulates each run twice more.

    Raises:
        UsageError: `folder` has no runs, or the bounds do not hold for them.
        ControlError: A run beat a bound: the bound or the simulator is wrong.
    """
    runs = sorted(path.parent for path in folder.glob(f"cells/*/{CONFIG}"))
    if not runs:
        raise UsageError(
            f"{folder} holds no runs (cells/*/{CONFIG}): give a folder of experiments.compare"
        )
    found = []
    for run in runs:
        regret = _regret(run)
        on_done(regret)
        found.append(regret)
    return found


def _regret(run: Path) -> Regret:
    config = run_config(yaml.safe_load((run / CONFIG).read_text()))
    if config.policy.residency.partial:
        raise UsageError(
            "bounds need whole models in the tiers: set policy.residency.partial=false"
        )
    setup = sim_setup(config)
    requests = list(workload_requests(config.workload, config.models.names, config.seed))
    policy = policy_settings(config, setup)
    oracle, ends = oracle_of(setup, requests, powers_of(policy)), _ends(run)
    try:
        standing = standing_of(oracle, ends, policy.controller.startup_timeout_s)
    except ControlError as error:
        raise ControlError(f"{run.name}: {error}") from error

    def delay_of(relaxed: SimSetup, under: PolicySettings) -> float:
        recorder = simulate(under, relaxed, requests, config.seed).recorder
        return mean_delay_s(oracle, table_ends(recorder.requests))

    return Regret(
        label=run.name.rpartition("-seed")[0],
        seed=config.seed,
        requests=len(ends),
        timed_out=sum(end.outcome == "timed_out" for end in ends),
        startup_s=_mean_startup_s(run),
        delay_s=standing.delay_s,
        chains_s=standing.chains_s,
        pooled_s=standing.pooled_s,
        bound_s=standing.bound_s,
        regret_s=standing.regret_s,
        infinite_dram_s=delay_of(infinite_dram(setup), policy),
        all_remote_s=delay_of(all_remote(setup), uncached(policy)),
    )


def _ends(run: Path) -> list[RequestEnd]:
    columns = ["request_id", "outcome", "arrived_at_s", "ended_at_s"]
    rows = parquet.read_table(run / REQUESTS, columns=columns).to_pylist()
    return [RequestEnd(*(row[name] for name in columns)) for row in rows]


def _mean_startup_s(run: Path) -> float:
    summary = json.loads((run / SUMMARY).read_text())
    return float(summary["startup_latency_s"]["mean"] or 0.0)


def csv_text(regrets: Sequence[Regret]) -> str:
    """Return CSV text with a row per run."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Regret)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(regret) for regret in regrets)
    return text.getvalue()


def plain_regrets(regrets: Sequence[Regret]) -> list[dict[str, Any]]:
    """Return plain data for JSON."""
    return [asdict(regret) for regret in regrets]


_COLUMNS = (
    ("startup s", "startup_s"),
    ("delay s", "delay_s"),
    ("bound s", "bound_s"),
    ("regret s", "regret_s"),
    ("inf. DRAM s", "infinite_dram_s"),
    ("remote s", "all_remote_s"),
    ("timed out", "timed_out"),
)


def regret_table(regrets: Sequence[Regret]) -> str:
    """Return a table with a row per policy: medians over its seeds, the least regret first."""
    by_label: dict[str, list[Regret]] = {}
    for regret in regrets:
        by_label.setdefault(regret.label, []).append(regret)
    rows = {
        label: {name: median(getattr(r, name) for r in group) for _, name in _COLUMNS}
        for label, group in by_label.items()
    }
    lines = ["policy".ljust(18) + "".join(heading.rjust(13) for heading, _ in _COLUMNS)]
    for label, row in sorted(rows.items(), key=lambda item: item[1]["regret_s"]):
        lines.append(label.ljust(18) + "".join(f"{row[name]:13.3g}" for _, name in _COLUMNS))
    return "\n".join(lines) + "\n"
