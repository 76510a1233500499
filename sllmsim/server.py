"""A simulated server: it holds what it was told to hold, and refuses what a real one would."""

from sllmcore.errors import ControlError
from sllmcore.types import CACHE_TIERS, Residency, StorageTier
from sllmsim.links import Hop, Link
from sllmsim.setup import SimServerSetup


class SimServer:
    """GPUs, links and tiers of one server, as they are."""

    __slots__ = (
        "_capacity_bytes",
        "_coming_bytes",
        "_held_bytes",
        "_hops",
        "_occupants",
        "_used_bytes",
        "hardware",
        "id",
        "leaving",
        "nic",
        "pcie",
        "ssd_read",
        "ssd_write",
        "uplinks",
    )

    def __init__(self, setup: SimServerSetup) -> None:
        self.id = setup.id
        self.hardware = hardware = setup.hardware
        self.leaving = False
        gpus = range(hardware.num_gpus)
        self.nic = Link(f"{self.id}/nic", hardware.nic_bytes_per_s)
        self.ssd_read = Link(f"{self.id}/ssd_read", hardware.ssd_read_bytes_per_s)
        self.ssd_write = Link(f"{self.id}/ssd_write", hardware.ssd_write_bytes_per_s)
        self.pcie = [Link(f"{self.id}/pcie{i}", hardware.pcie_bytes_per_s) for i in gpus]
        shared = gpus[:: hardware.gpus_per_uplink] if hardware.gpus_per_uplink > 1 else ()
        self.uplinks = [Link(f"{self.id}/uplink{i}", hardware.pcie_bytes_per_s) for i in shared]
        self._hops: dict[tuple[int, ...], tuple[Hop, ...]] = {}  # into the GPUs of an instance
        self._occupants: list[str | None] = [None] * hardware.num_gpus
        self._capacity_bytes = {
            StorageTier.DRAM: hardware.dram_pool_bytes,
            StorageTier.SSD: hardware.ssd_bytes,
        }
        self._used_bytes = dict.fromkeys(CACHE_TIERS, 0)  # held and promised
        self._held_bytes: dict[StorageTier, dict[str, int]] = {tier: {} for tier in CACHE_TIERS}
        self._coming_bytes: dict[StorageTier, dict[str, int]] = {tier: {} for tier in CACHE_TIERS}
        for found in setup.resident:
            self.promise(found.tier, found.model, found.num_bytes)
            self.fill(found.tier, found.model)

    def to_gpus(self, gpu_indices: tuple[int, ...]) -> tuple[Hop, ...]:
        """The way from memory into these GPUs: each byte goes to one of them."""
        known = self._hops.get(gpu_indices)
        if known is None:
            known = self._hops[gpu_indices] = self._hops_to(gpu_indices)
        return known

    def _hops_to(self, gpu_indices: tuple[int, ...]) -> tuple[Hop, ...]:
        weight = 1 / len(gpu_indices)
        hops = [Hop(self.pcie[index], weight) for index in gpu_indices]
        for position, uplink in enumerate(self.uplinks):
            behind = [i for i in gpu_indices if i // self.hardware.gpus_per_uplink == position]
            if behind:
                hops.append(Hop(uplink, weight * len(behind)))
        return tuple(hops)

    def occupy(self, gpu_indices: tuple[int, ...], instance_id: str) -> None:
        """Give GPUs to an instance.

        Raises:
            ControlError: One of them has a tenant already.
        """
        for index in gpu_indices:
            if self._occupants[index] is not None:
                raise ControlError(
                    f"GPU {index} of {self.id} is held by {self._occupants[index]}, "
                    f"{instance_id} cannot have it"
                )
            self._occupants[index] = instance_id

    def vacate(self, instance_id: str) -> None:
        self._occupants = [None if t == instance_id else t for t in self._occupants]

    @property
    def empty(self) -> bool:
        return not any(self._occupants)

    def held_bytes(self, tier: StorageTier, model: str) -> int:
        return self._held_bytes[tier].get(model, 0)

    def promise(self, tier: StorageTier, model: str, num_bytes: int) -> None:
        """Set room aside for bytes that are to come.

        Raises:
            ControlError: The tier would be over its capacity.
        """
        used_bytes = self._used_bytes[tier]
        if used_bytes + num_bytes > self._capacity_bytes[tier]:
            raise ControlError(
                f"{tier.name} of {self.id} holds {used_bytes} of {self._capacity_bytes[tier]} "
                f"bytes; {num_bytes} of {model} do not fit"
            )
        self._coming_bytes[tier][model] = num_bytes
        self._used_bytes[tier] += num_bytes

    def fill(self, tier: StorageTier, model: str) -> None:
        held = self._held_bytes[tier]
        held[model] = held.get(model, 0) + self._coming_bytes[tier].pop(model)

    def release(self, tier: StorageTier, model: str) -> None:
        self._used_bytes[tier] -= self._coming_bytes[tier].pop(model)

    def evict(self, tier: StorageTier, model: str, keep_bytes: int) -> None:
        held = self._held_bytes[tier]
        had_bytes = held.pop(model, 0)
        if had_bytes <= keep_bytes:
            raise ControlError(
                f"{tier.name} of {self.id} holds {had_bytes} bytes of {model}: nothing to evict"
            )
        if keep_bytes:
            held[model] = keep_bytes
        self._used_bytes[tier] -= had_bytes - keep_bytes

    def crash(self) -> None:
        """Only the SSD keeps what it has."""
        self._occupants = [None] * self.hardware.num_gpus
        self._held_bytes[StorageTier.DRAM].clear()
        for coming in self._coming_bytes.values():
            coming.clear()
        for tier, held in self._held_bytes.items():
            self._used_bytes[tier] = sum(held.values())

    def resident(self) -> tuple[Residency, ...]:
        """What its tiers hold, as it would declare on joining."""
        return tuple(
            Residency(tier, model, num_bytes)
            for tier, held in self._held_bytes.items()
            for model, num_bytes in held.items()
        )
