"""Energy and cost from the stated rates of the GPU table, not from a measurement.

    energy = busy t_b + loading t_l + resident t_r + empty t_e      (watts times GPU-seconds)

where t_r is the GPU time of instances that have nothing to do, and t_e that of GPUs without an
instance. The cost is the GPU's hourly price for as long as its server was up, used or not.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import fsum

from sllmcore.metrics import Recorder, Summary
from sllmsim.catalog import GpuSpec


@dataclass(frozen=True, slots=True)
class GpuUse:
    """GPU-seconds of idle instances over a run, and the energy and cost of all GPUs."""

    resident_s: float
    energy_j: float
    cost_usd: float


def gpu_use(gpu: GpuSpec, summary: Summary, recorder: Recorder) -> GpuUse:
    """Return the use of all GPUs of a run together."""
    instances = recorder.instances
    held_s = held_gpu_s(
        instances.numbers("num_gpus"),
        instances.numbers("launched_at_s"),
        instances.numbers("ended_at_s"),
    )
    busy_s, loading_s, idle_s = summary.gpu_busy_s, summary.gpu_loading_s, summary.gpu_idle_s
    resident_s = resident_gpu_s(summary, held_s)
    return GpuUse(
        resident_s,
        fsum(
            (
                busy_s * gpu.busy_w,
                loading_s * gpu.loading_w,
                resident_s * gpu.resident_w,
                (idle_s - resident_s) * gpu.idle_w,
            )
        ),
        fsum((busy_s, loading_s, idle_s)) / 3600 * gpu.cost_per_hour_usd,
    )


def held_gpu_s(
    num_gpus: Iterable[float], launched_at_s: Iterable[float], ended_at_s: Iterable[float]
) -> float:
    """Return the GPU-seconds that instances held, from three columns of their table."""
    rows = zip(num_gpus, launched_at_s, ended_at_s, strict=True)
    return fsum(gpus * (end_s - start_s) for gpus, start_s, end_s in rows)


def resident_gpu_s(summary: Summary, held_s: float) -> float:
    """Return the GPU-seconds of instances that had nothing to do, given those that all held."""
    unused_s = max(0.0, held_s - summary.gpu_busy_s - summary.gpu_loading_s)
    return min(summary.gpu_idle_s, unused_s)
