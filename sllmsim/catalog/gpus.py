"""Accelerators: memory, bandwidth, arithmetic, host link, power and price of each.

Peaks are dense (no 2:4 sparsity) and come from the NVIDIA datasheet named at each entry; [M] marks
numbers from memory. A datasheet's "GB" of GPU memory is 2^30 bytes. Prices and idle powers are
assumptions to be overridden, not measurements:

- `cost_per_hour_usd`: RunPod's list of March 2026, from a secondary source; [M] for a card that is
  not in the list. All are of one provider, because prices of different providers do not compare.
- `idle_w`: without a process. [M], but 74 W for H200 (nvidia-smi means published 2026).
- `resident_w`: with a CUDA context. arXiv 2605.23918 measures 26-50 W above idle on HBM cards, 66 W
  on L40S, and less than 0.02 W per GB held; the table adds 38 W, the middle of the first range.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sllmcore.errors import UsageError
from sllmsim.catalog.dtypes import Dtype
from sllmsim.catalog.lookup import entry_named

GIB = 1 << 30
PCIE3_BYTES_PER_S = 12.5e9  # usable x16, one direction: half of PCIe 4 [M]
PCIE4_BYTES_PER_S = 25.0e9  # usable x16, one direction [M]
PCIE5_BYTES_PER_S = 55.6e9  # usable x16, one direction: nvbandwidth H2D; 55.0-55.1 seen on H100
LOADING_POWER_SHARE = 0.15  # of the range resident..busy, while weights are copied in: assumption


class Architecture(StrEnum):
    """GPU generations: their kernels reach different shares of the peak."""

    VOLTA = "volta"
    AMPERE = "ampere"
    ADA = "ada"
    HOPPER = "hopper"
    BLACKWELL = "blackwell"
    CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSpec:
    """An accelerator.

    Args:
        nvlink_bytes_per_s: Usable, in one direction; None: peers communicate over PCIe.
    """

    name: str
    architecture: Architecture
    memory_bytes: int
    memory_bytes_per_s: float
    fp16_flops: float
    fp8_flops: float | None
    int8_flops: float | None
    pcie_generation: int | None  # None: the device is the host
    pcie_bytes_per_s: float
    nvlink_bytes_per_s: float | None
    busy_w: float
    idle_w: float
    resident_w: float
    cost_per_hour_usd: float

    def __post_init__(self) -> None:
        for name in ("memory_bytes", "memory_bytes_per_s", "fp16_flops", "pcie_bytes_per_s"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} of {self.name} must be positive: {getattr(self, name)}")
        if not 0 <= self.idle_w <= self.resident_w <= self.busy_w:
            raise UsageError(f"{self.name} must have 0 <= idle_w <= resident_w <= busy_w")
        if self.cost_per_hour_usd < 0:
            raise UsageError(f"cost_per_hour_usd of {self.name} must not be negative")

    @property
    def loading_w(self) -> float:
        """Power while weights are copied in: resident, plus a share of the range up to busy."""
        return self.resident_w + LOADING_POWER_SHARE * (self.busy_w - self.resident_w)

    @property
    def peer_bytes_per_s(self) -> float:
        """Bytes per second between two devices of one server, in one direction."""
        return self.nvlink_bytes_per_s or self.pcie_bytes_per_s

    def flops(self, dtype: Dtype) -> float:
        """Return the peak rate of matrix products, in operations per second.

        It is that of fp16 if the hardware lacks the format: only weights are compressed then.
        """
        rates = {Dtype.FP8: self.fp8_flops, Dtype.INT8: self.int8_flops}
        return rates.get(dtype) or self.fp16_flops


_ROWS = (
    GpuSpec(  # V100 SXM2 32 GB datasheet
        name="v100",
        architecture=Architecture.VOLTA,
        memory_bytes=32 * GIB,
        memory_bytes_per_s=900e9,
        fp16_flops=125e12,
        fp8_flops=None,
        int8_flops=None,
        pcie_generation=3,
        pcie_bytes_per_s=PCIE3_BYTES_PER_S,
        nvlink_bytes_per_s=130e9,  # of 150 [M]
        busy_w=300,
        idle_w=40,
        resident_w=78,
        cost_per_hour_usd=0.23,  # [M]
    ),
    GpuSpec(  # A10 datasheet
        name="a10",
        architecture=Architecture.AMPERE,
        memory_bytes=24 * GIB,
        memory_bytes_per_s=600e9,
        fp16_flops=125e12,
        fp8_flops=None,
        int8_flops=250e12,
        pcie_generation=4,
        pcie_bytes_per_s=PCIE4_BYTES_PER_S,
        nvlink_bytes_per_s=None,
        busy_w=150,
        idle_w=20,
        resident_w=57,  # [M]
        cost_per_hour_usd=0.75,  # Lambda, 2025 [M]
    ),
    GpuSpec(  # RTX A5000 datasheet: 222.2 tensor TFLOPS are with sparsity
        name="a5000",
        architecture=Architecture.AMPERE,
        memory_bytes=24 * GIB,
        memory_bytes_per_s=768e9,
        fp16_flops=111.1e12,
        fp8_flops=None,
        int8_flops=222.2e12,
        pcie_generation=4,
        pcie_bytes_per_s=PCIE4_BYTES_PER_S,
        nvlink_bytes_per_s=None,  # a bridge joins two cards; the published testbed names none
        busy_w=230,
        idle_w=20,
        resident_w=62,  # [M]
        cost_per_hour_usd=0.27,  # [M]
    ),
    GpuSpec(  # A40 datasheet; bandwidth and power also in two public tables
        name="a40",
        architecture=Architecture.AMPERE,
        memory_bytes=48 * GIB,
        memory_bytes_per_s=696e9,
        fp16_flops=149.7e12,
        fp8_flops=None,
        int8_flops=299.3e12,
        pcie_generation=4,
        pcie_bytes_per_s=PCIE4_BYTES_PER_S,
        nvlink_bytes_per_s=None,  # as A5000
        busy_w=300,
        idle_w=30,
        resident_w=78,  # [M]
        cost_per_hour_usd=0.40,  # [M]
    ),
    GpuSpec(  # A100 datasheet, SXM4 40 GB
        name="a100-40g",
        architecture=Architecture.AMPERE,
        memory_bytes=40 * GIB,
        memory_bytes_per_s=1555e9,
        fp16_flops=312e12,
        fp8_flops=None,
        int8_flops=624e12,
        pcie_generation=4,
        pcie_bytes_per_s=PCIE4_BYTES_PER_S,
        nvlink_bytes_per_s=250e9,  # of 300 [M]
        busy_w=400,
        idle_w=50,
        resident_w=88,
        cost_per_hour_usd=1.29,  # Lambda, 2025 [M]
    ),
    GpuSpec(  # A100 datasheet, SXM4 80 GB
        name="a100-80g",
        architecture=Architecture.AMPERE,
        memory_bytes=80 * GIB,
        memory_bytes_per_s=2039e9,
        fp16_flops=312e12,
        fp8_flops=None,
        int8_flops=624e12,
        pcie_generation=4,
        pcie_bytes_per_s=PCIE4_BYTES_PER_S,
        nvlink_bytes_per_s=250e9,  # of 300 [M]
        busy_w=400,
        idle_w=50,
        resident_w=88,
        cost_per_hour_usd=1.39,
    ),
    GpuSpec(  # L4 datasheet: its tensor rates are with sparsity
        name="l4",
        architecture=Architecture.ADA,
        memory_bytes=24 * GIB,
        memory_bytes_per_s=300e9,
        fp16_flops=121e12,
        fp8_flops=242.5e12,
        int8_flops=242.5e12,
        pcie_generation=4,
        pcie_bytes_per_s=PCIE4_BYTES_PER_S,
        nvlink_bytes_per_s=None,
        busy_w=72,
        idle_w=16,
        resident_w=33,  # [M]
        cost_per_hour_usd=0.44,
    ),
    GpuSpec(  # L40S datasheet
        name="l40s",
        architecture=Architecture.ADA,
        memory_bytes=48 * GIB,
        memory_bytes_per_s=864e9,
        fp16_flops=362.05e12,
        fp8_flops=733e12,
        int8_flops=733e12,
        pcie_generation=4,
        pcie_bytes_per_s=PCIE4_BYTES_PER_S,
        nvlink_bytes_per_s=None,
        busy_w=350,
        idle_w=35,
        resident_w=101,
        cost_per_hour_usd=0.79,
    ),
    GpuSpec(  # H100 datasheet, SXM5; its tensor rates are with sparsity
        name="h100-sxm",
        architecture=Architecture.HOPPER,
        memory_bytes=80 * GIB,
        memory_bytes_per_s=3350e9,
        fp16_flops=989e12,
        fp8_flops=1979e12,
        int8_flops=1979e12,
        pcie_generation=5,
        pcie_bytes_per_s=PCIE5_BYTES_PER_S,
        nvlink_bytes_per_s=380e9,  # of 450 [M]
        busy_w=700,
        idle_w=70,
        resident_w=108,
        cost_per_hour_usd=2.69,
    ),
    GpuSpec(  # H200 datasheet, SXM5: H100's arithmetic, more memory
        name="h200",
        architecture=Architecture.HOPPER,
        memory_bytes=140 * GIB,  # "141 GB"; 139-140 GiB are visible
        memory_bytes_per_s=4800e9,
        fp16_flops=989e12,
        fp8_flops=1979e12,
        int8_flops=1979e12,
        pcie_generation=5,
        pcie_bytes_per_s=PCIE5_BYTES_PER_S,
        nvlink_bytes_per_s=380e9,  # of 450 [M]
        busy_w=700,
        idle_w=74,
        resident_w=112,
        cost_per_hour_usd=3.59,
    ),
    GpuSpec(  # HGX B200 datasheet: 180 GB and 7.7 TB/s of the chip's 192 GB and 8 TB/s
        name="b200",
        architecture=Architecture.BLACKWELL,
        memory_bytes=180 * GIB,
        memory_bytes_per_s=7700e9,
        fp16_flops=2250e12,
        fp8_flops=4500e12,
        int8_flops=4500e12,
        pcie_generation=5,
        pcie_bytes_per_s=PCIE5_BYTES_PER_S,
        nvlink_bytes_per_s=760e9,  # of 900 [M]
        busy_w=1000,
        idle_w=140,
        resident_w=178,
        cost_per_hour_usd=5.98,
    ),
    GpuSpec(  # one socket of Xeon Platinum 8480+ [M]: 56 cores, AMX at 2.0 GHz, 8 x DDR5-4800
        name="cpu",
        architecture=Architecture.CPU,
        memory_bytes=512 * GIB,
        memory_bytes_per_s=307.2e9,
        fp16_flops=229e12,  # 56 cores x 2048 bf16 per cycle x 2.0 GHz
        fp8_flops=None,
        int8_flops=459e12,
        pcie_generation=None,
        pcie_bytes_per_s=153.6e9,  # a copy inside its own DRAM: each byte is read and written
        nvlink_bytes_per_s=None,
        busy_w=350,
        idle_w=100,
        resident_w=100,
        cost_per_hour_usd=1.12,  # assumption: 0.02 USD a core-hour
    ),
)

GPUS: Mapping[str, GpuSpec] = {gpu.name: gpu for gpu in _ROWS}


def gpu_named(name: str) -> GpuSpec:
    """Return a device by its id, such as "a100-80g".

    Raises:
        UsageError: There is no such device; the message lists similar ids.
    """
    return entry_named("gpu", name, GPUS)
