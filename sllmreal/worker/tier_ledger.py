"""What counts as resident in the tiers of a server: numbers that follow the orders, without bytes.

A load's bytes are promised room when it begins and count when they are there; they are taken back
when the controller says, in ending the instance, that it never heard of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sllmcore.errors import ControlError
from sllmcore.types import CACHE_TIERS, Residency, StorageTier


@dataclass(frozen=True, slots=True)
class _Filling:
    """A load that brings a model into tiers, of which each held so many bytes before."""

    model: str
    size_bytes: int
    before_bytes: Mapping[StorageTier, int]


class TierLedger:
    """Bytes resident and promised, by tier and model."""

    def __init__(
        self, capacity_bytes: Mapping[StorageTier, int], resident: Iterable[Residency] = ()
    ) -> None:
        self._capacity_bytes = dict(capacity_bytes)
        self._held: dict[StorageTier, dict[str, int]] = {tier: {} for tier in CACHE_TIERS}
        self._promised: dict[str, _Filling] = {}  # by instance, until its load has finished
        self._filled: dict[str, _Filling] = {}  # by instance, until that ends
        for one in resident:
            self._held[one.tier][one.model] = one.num_bytes

    def held_bytes(self, tier: StorageTier, model: str) -> int:
        return self._held[tier].get(model, 0)

    def used_bytes(self, tier: StorageTier) -> int:
        """Held and promised."""
        promised = [
            one.size_bytes - one.before_bytes[tier]
            for one in self._promised.values()
            if tier in one.before_bytes
        ]
        return sum(self._held[tier].values()) + sum(promised)

    def promise(
        self, instance_id: str, model: str, size_bytes: int, cache_in: Iterable[StorageTier]
    ) -> None:
        """Set room aside in `cache_in`. Raises ControlError where there is not so much."""
        before_bytes = {tier: self.held_bytes(tier, model) for tier in cache_in}
        for tier, before in before_bytes.items():
            used, capacity = self.used_bytes(tier), self._capacity_bytes[tier]
            if used + size_bytes - before > capacity:
                raise ControlError(
                    f"{tier.name} holds {used} of {capacity} bytes; "
                    f"{size_bytes - before} of {model} do not fit"
                )
        self._promised[instance_id] = _Filling(model, size_bytes, before_bytes)

    def fill(self, instance_id: str) -> None:
        """The promised bytes are there."""
        filling = self._filled[instance_id] = self._promised.pop(instance_id)
        for tier in filling.before_bytes:
            self._held[tier][filling.model] = filling.size_bytes

    def end(self, instance_id: str, *, heard: bool) -> None:
        """The instance is gone; what its load brought stays if the controller had heard of it."""
        self._promised.pop(instance_id, None)
        filling = self._filled.pop(instance_id, None)
        if filling is not None and not heard:
            for tier, before_bytes in filling.before_bytes.items():
                self._set(tier, filling.model, before_bytes)

    def evict(self, tier: StorageTier, model: str, keep_bytes: int) -> None:
        """Count the first `keep_bytes` of a model at most."""
        self._set(tier, model, keep_bytes)

    def resident(self) -> tuple[Residency, ...]:
        return tuple(
            Residency(tier, model, num_bytes)
            for tier, held in self._held.items()
            for model, num_bytes in held.items()
        )

    def _set(self, tier: StorageTier, model: str, at_most_bytes: int) -> None:
        held = self._held[tier]
        kept_bytes = min(held.pop(model, 0), at_most_bytes)
        if kept_bytes > 0:
            held[model] = kept_bytes
