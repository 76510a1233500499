"""Energy and cost from the stated rates of the GPU table, not from a measurement.

    energy = busy t_b + loading t_l + resident t_r + idle t_i      (watts times GPU-seconds)

`t_r`: an instance is there but has nothing to do; `t_i`: no instance. Cost is the GPU's hourly
price for as long as its server was there, used or not.
"""

from dataclasses import dataclass
from math import fsum

from sllmcore.metrics import Recorder, Summary
from sllmsim.catalog import GpuSpec


@dataclass(frozen=True, slots=True)
class GpuUse:
    """GPU-seconds of a run by what the GPU did, and what that took."""

    resident_s: float
    energy_j: float
    cost_usd: float


def gpu_use(gpu: GpuSpec, summary: Summary, recorder: Recorder) -> GpuUse:
    """Of all GPUs of a run together."""
    instances = recorder.instances
    held = zip(
        instances.numbers("num_gpus"),
        instances.numbers("launched_at_s"),
        instances.numbers("ended_at_s"),
        strict=True,
    )
    held_s = fsum(num_gpus * (end_s - launched_s) for num_gpus, launched_s, end_s in held)
    busy_s, loading_s, idle_s = summary.gpu_busy_s, summary.gpu_loading_s, summary.gpu_idle_s
    resident_s = min(idle_s, max(0.0, held_s - busy_s - loading_s))
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
