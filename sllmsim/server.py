"""A simulated server: GPUs, links and cache tiers. It refuses the orders that a real one would."""

from collections.abc import Iterable

from sllmcore.errors import ControlError
from sllmcore.tier_ledger import TierLedger
from sllmcore.types import DRAM, SSD, Residency, StorageTier
from sllmsim.links import Hop, Link
from sllmsim.setup import SimServerSetup


class SimServer:
    """A server that is up or may return. `leaving` is True while it drains."""

    __slots__ = (
        "_hops",
        "_occupants",
        "hardware",
        "id",
        "leaving",
        "nic",
        "nic_out",
        "pcie",
        "ssd_read",
        "ssd_write",
        "tiers",
        "uplinks",
    )

    def __init__(self, setup: SimServerSetup) -> None:
        self.id = setup.id
        self.hardware = hardware = setup.hardware
        self.leaving = False
        gpus = range(hardware.num_gpus)
        self.nic = Link(f"{self.id}/nic", hardware.nic_bytes_per_s)  # into the server
        self.nic_out = Link(f"{self.id}/nic_out", hardware.nic_bytes_per_s)
        self.ssd_read = Link(f"{self.id}/ssd_read", hardware.ssd_read_bytes_per_s)
        self.ssd_write = Link(f"{self.id}/ssd_write", hardware.ssd_write_bytes_per_s)
        self.pcie = [Link(f"{self.id}/pcie{i}", hardware.pcie_bytes_per_s) for i in gpus]
        shared = gpus[:: hardware.gpus_per_uplink] if hardware.gpus_per_uplink > 1 else ()
        self.uplinks = [Link(f"{self.id}/uplink{i}", hardware.pcie_bytes_per_s) for i in shared]
        self._hops: dict[tuple[int, ...], tuple[Hop, ...]] = {}  # by GPUs of an instance
        self._occupants: list[str | None] = [None] * hardware.num_gpus
        self.tiers = self._ledger(setup.resident)

    def _ledger(self, resident: Iterable[Residency]) -> TierLedger:
        capacity_bytes = {DRAM: self.hardware.dram_pool_bytes, SSD: self.hardware.ssd_bytes}
        return TierLedger(self.id, capacity_bytes, resident)

    def to_gpus(self, gpu_indices: tuple[int, ...]) -> tuple[Hop, ...]:
        """Return the links from memory into these GPUs. Each byte goes to one of the GPUs."""
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
            ControlError: One of them has an occupant already.
        """
        for index in gpu_indices:
            if self._occupants[index] is not None:
                raise ControlError(
                    f"GPU {index} of {self.id} is held by {self._occupants[index]}, "
                    f"{instance_id} cannot have it"
                )
            self._occupants[index] = instance_id

    def vacate(self, instance_id: str) -> None:
        """Take the GPUs of an instance back."""
        self._occupants = [None if one == instance_id else one for one in self._occupants]

    @property
    def empty(self) -> bool:
        """True if no GPU has an occupant."""
        return not any(self._occupants)

    def evict(self, tier: StorageTier, model: str, keep_bytes: int) -> None:
        """Drop a model from a tier, all but its first `keep_bytes`.

        Raises:
            ControlError: The tier holds no more than that.
        """
        if not self.tiers.evict(tier, model, keep_bytes):
            raise ControlError(
                f"{tier.name} of {self.id} holds {self.tiers.held_bytes(tier, model)} bytes of "
                f"{model}: nothing to evict"
            )

    def crash(self) -> None:
        """Lose all instances and the DRAM tier; the SSD tier keeps its models."""
        self._occupants = [None] * self.hardware.num_gpus
        self.tiers = self._ledger([kept for kept in self.tiers.resident() if kept.tier is SSD])
