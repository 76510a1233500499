"""summary.json: the results of a run on one page. `configs/README.md` lists its keys.

A field that `sllmcore.metrics.Summary` has appears in the file without a change here. Any other
field is added to `SummaryFields`, and filled in below for the drivers that know its value.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from experiments.config.run_config import RunConfig
from experiments.simulation.energy import gpu_use, resident_gpu_s
from sllmcore.errors import ControlError
from sllmcore.metrics import Summary
from sllmcore.metrics.summary import Distribution, distribution
from sllmsim.simulate import SimResult
from traces.account import Account

LINK_KINDS = ("storage", "nic", "ssd_read", "ssd_write", "pcie", "uplink")


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryFields:
    """The fields that `Summary` lacks, in the order of the file.

    A field is None, and missing in the file, where the driver does not know it.
    """

    gpu_resident_s: float
    bytes_by_link: dict[str, int] | None = None
    energy_j: float | None = None
    cost_usd: float | None = None
    workload: Account
    num_events: int | None = None
    send_lag_s: Distribution | None = None
    simulated_s: float | None = None
    measured_s: float | None = None


def simulated_summary(config: RunConfig, result: SimResult, account: Account) -> dict[str, Any]:
    """Return the content of summary.json for a simulation, without `wall_s`.

    Raises:
        ControlError: A request is unaccounted for.
    """
    use = gpu_use(config.cluster.gpu, result.summary, result.recorder)
    fields = SummaryFields(
        gpu_resident_s=use.resident_s,
        bytes_by_link=bytes_by_kind(result.bytes_by_link),
        energy_j=use.energy_j,
        cost_usd=use.cost_usd,
        workload=account,
        num_events=result.num_events,
        simulated_s=result.summary.ended_at_s,
    )
    return _plain(config, result.summary, fields)


def measured_summary(
    config: RunConfig, summary: Summary, account: Account, held_s: float, lags_s: Iterable[float]
) -> dict[str, Any]:
    """Return the content of summary.json for a run on a real cluster, without `wall_s`.

    Args:
        held_s: GPU-seconds that instances held; 0 if the system records no instances.
        lags_s: Delay of each request's sending.

    Raises:
        ControlError: A request is unaccounted for.
    """
    fields = SummaryFields(
        gpu_resident_s=resident_gpu_s(summary, held_s),
        workload=account,
        send_lag_s=distribution(lags_s),
        measured_s=summary.ended_at_s,
    )
    return _plain(config, summary, fields)


def _plain(config: RunConfig, summary: Summary, fields: SummaryFields) -> dict[str, Any]:
    plain = asdict(summary)
    del plain["ended_at_s"]  # simulated_s or measured_s
    check_accounting(plain, fields.workload.jobs)
    known = {name: value for name, value in asdict(fields).items() if value is not None}
    return {
        "name": config.name,
        "policy": config.policy.name,
        "seed": config.seed,
        **plain,
        **known,
    }


def check_accounting(summary: Mapping[str, Any], num_requests: int) -> None:
    """Check that each request of the workload ended in exactly one way.

        completed + rejected + timed_out + cancelled = requests = num_requests

    Raises:
        ControlError: The counts differ.
    """
    outcomes = ("completed", "rejected", "timed_out", "cancelled")
    ended = sum(summary[outcome] for outcome in outcomes)
    if not ended == summary["requests"] == num_requests:
        counts = ", ".join(f"{outcome} {summary[outcome]}" for outcome in outcomes)
        raise ControlError(
            f"requests are unaccounted for: the workload has {num_requests}, the controller met "
            f"{summary['requests']}, {ended} ended ({counts})"
        )


def bytes_by_kind(bytes_by_link: Mapping[str, float]) -> dict[str, int]:
    """Return the bytes of all links of each kind; "a40-0/pcie3" is a link of kind pcie."""
    sums: Counter[str] = Counter()
    for name, num_bytes in bytes_by_link.items():
        sums[name.rpartition("/")[2].rstrip("0123456789")] += round(num_bytes)
    return {kind: sums[kind] for kind in LINK_KINDS}
