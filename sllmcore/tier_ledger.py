"""The bytes that count as resident in the cache tiers of one server, as its driver keeps them.

A load reserves room when it begins, and its bytes count from `fill` on. If the instance ends before
the controller has acknowledged its load, they are taken back: the controller does not know of them.
The controller's own view of a tier, with its order of eviction, is `cluster.tier_cache`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sllmcore.errors import ControlError
from sllmcore.types import CACHE_TIERS, Residency, StorageTier


@dataclass(frozen=True, slots=True)
class _Filling:
    """A load that brings a model into tiers, with the bytes that each tier held before."""

    model: str
    size_bytes: int
    before_bytes: Mapping[StorageTier, int]


class TierLedger:
    """Bytes resident and reserved, by tier and model.

    Args:
        server_id: For error messages.
        resident: Initial content of the tiers.

    Raises:
        ControlError: `resident` exceeds the capacity of a tier.
    """

    __slots__ = ("_capacity_bytes", "_filled", "_held", "_promised", "_server_id", "_used_bytes")

    def __init__(
        self,
        server_id: str,
        capacity_bytes: Mapping[StorageTier, int],
        resident: Iterable[Residency] = (),
    ) -> None:
        self._server_id = server_id
        self._capacity_bytes = dict(capacity_bytes)
        self._used_bytes = dict.fromkeys(CACHE_TIERS, 0)  # held and promised
        self._held: dict[StorageTier, dict[str, int]] = {tier: {} for tier in CACHE_TIERS}
        self._promised: dict[str, _Filling] = {}  # by instance, until its load has finished
        self._filled: dict[str, _Filling] = {}  # by instance, until that ends
        for found in resident:
            self._check_room(found.tier, found.model, found.num_bytes)
            self._held[found.tier][found.model] = found.num_bytes
            self._used_bytes[found.tier] += found.num_bytes

    def held_bytes(self, tier: StorageTier, model: str) -> int:
        """Return the bytes of a model that count as resident in a tier."""
        return self._held[tier].get(model, 0)

    def used_bytes(self, tier: StorageTier) -> int:
        """Return the bytes of a tier that are held or promised."""
        return self._used_bytes[tier]

    def promise(
        self, instance_id: str, model: str, size_bytes: int, cache_in: Iterable[StorageTier]
    ) -> None:
        """Reserve room in `cache_in` for the bytes of a model that are not there.

        Raises:
            ControlError: A tier would exceed its capacity; nothing is reserved then.
        """
        before_bytes = {tier: self.held_bytes(tier, model) for tier in cache_in}
        for tier, before in before_bytes.items():
            self._check_room(tier, model, size_bytes - before)
        for tier, before in before_bytes.items():
            self._used_bytes[tier] += size_bytes - before
        self._promised[instance_id] = _Filling(model, size_bytes, before_bytes)

    def fill(self, instance_id: str) -> None:
        """Count the promised bytes of an instance as resident: they are there."""
        filling = self._filled[instance_id] = self._promised.pop(instance_id)
        for tier in filling.before_bytes:
            self._held[tier][filling.model] = filling.size_bytes

    def end(self, instance_id: str, *, acknowledged: bool) -> None:
        """Forget an instance: release the room promised to it.

        If the controller has not acknowledged its load, the bytes that the load brought no longer
        count. Instances that were promised nothing are ignored.
        """
        promised = self._promised.pop(instance_id, None)
        if promised is not None:
            for tier, before in promised.before_bytes.items():
                self._used_bytes[tier] -= promised.size_bytes - before
        filled = self._filled.pop(instance_id, None)
        if filled is not None and not acknowledged:
            for tier, before in filled.before_bytes.items():
                self.evict(tier, filled.model, before)

    def evict(self, tier: StorageTier, model: str, keep_bytes: int) -> int:
        """Count at most the first `keep_bytes` of a model. Return the bytes that count no longer.

        It is no error if no more than `keep_bytes` were resident.
        """
        held = self._held[tier]
        freed_bytes = held.get(model, 0) - keep_bytes
        if freed_bytes <= 0:
            return 0
        del held[model]
        if keep_bytes:
            held[model] = keep_bytes
        self._used_bytes[tier] -= freed_bytes
        return freed_bytes

    def resident(self) -> tuple[Residency, ...]:
        """Return all models that count as resident, by tier."""
        return tuple(
            Residency(tier, model, num_bytes)
            for tier, held in self._held.items()
            for model, num_bytes in held.items()
        )

    def _check_room(self, tier: StorageTier, model: str, num_bytes: int) -> None:
        used, capacity = self._used_bytes[tier], self._capacity_bytes[tier]
        if used + num_bytes > capacity:
            raise ControlError(
                f"{tier.name} of {self._server_id} holds {used} of {capacity} bytes; "
                f"{num_bytes} of {model} do not fit"
            )
