"""Servers for a few small models."""

from dataclasses import replace

from sllmcore.types import ServerSpec

MIB = 1 << 20
SERVER = ServerSpec(
    id="s0",
    num_gpus=2,
    gpu_memory_bytes=8 * MIB,
    dram_bytes=16 * MIB,
    ssd_bytes=64 * MIB,
    remote_bytes_per_s=1e9,
    ssd_bytes_per_s=2e9,
    dram_bytes_per_s=4e9,
)


def small_server(**changes: int) -> ServerSpec:
    return replace(SERVER, **changes)  # type: ignore[arg-type]
