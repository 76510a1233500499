"""summary.json: what a run did, on a page. See `configs/README.md` for its keys."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from experiments.config.run_config import RunConfig
from experiments.simulation.energy import gpu_use
from sllmcore.errors import ControlError
from sllmsim.simulate import SimResult
from traces.account import Account

LINK_KINDS = ("storage", "nic", "ssd_read", "ssd_write", "pcie", "uplink")


def summary_of(config: RunConfig, result: SimResult, account: Account) -> dict[str, Any]:
    """As JSON has it, wall time apart.

    Raises:
        ControlError: A request is unaccounted for.
    """
    plain = asdict(result.summary)
    simulated_s = plain.pop("ended_at_s")
    check_accounting(plain, account.jobs)
    use = gpu_use(config.cluster.gpu, result.summary, result.recorder)
    return {
        "name": config.name,
        "policy": config.policy.name,
        "seed": config.seed,
        **plain,
        "gpu_resident_s": use.resident_s,
        "bytes_by_link": bytes_by_kind(result.bytes_by_link),
        "energy_j": use.energy_j,
        "cost_usd": use.cost_usd,
        "workload": asdict(account),
        "num_events": result.num_events,
        "simulated_s": simulated_s,
    }


def check_accounting(summary: Mapping[str, Any], num_jobs: int) -> None:
    """completed + rejected + timed_out + cancelled = requests = jobs of the workload."""
    outcomes = ("completed", "rejected", "timed_out", "cancelled")
    ended = sum(summary[outcome] for outcome in outcomes)
    if not ended == summary["requests"] == num_jobs:
        counts = ", ".join(f"{outcome} {summary[outcome]}" for outcome in outcomes)
        raise ControlError(
            f"requests are unaccounted for: {num_jobs} jobs, {summary['requests']} requests, "
            f"{ended} ended ({counts})"
        )


def bytes_by_kind(bytes_by_link: Mapping[str, float]) -> dict[str, int]:
    """Sums over the links of a kind: "a40-0/pcie3" is one of kind pcie."""
    sums: Counter[str] = Counter()
    for name, num_bytes in bytes_by_link.items():
        sums[name.rpartition("/")[2].rstrip("0123456789")] += round(num_bytes)
    return {kind: sums[kind] for kind in LINK_KINDS}
