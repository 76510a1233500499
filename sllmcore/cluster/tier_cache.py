"""The contents of one cache tier of one server: bytes per model, reservations and pins."""

from collections.abc import Iterator

from sllmcore.errors import ControlError, UsageError


class TierCache:
    """The models in one tier, least recently used first. A model may be partly resident.

    Space is reserved for a load before its bytes arrive, so that the tier never exceeds its
    capacity. A pinned model is being read by a load and cannot be evicted.
    """

    __slots__ = ("_pins", "_present_bytes", "_reserved_bytes", "capacity_bytes", "used_bytes")

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0  # present and reserved
        self._present_bytes: dict[str, int] = {}  # by model, least recently used first
        self._reserved_bytes: dict[str, int] = {}  # by model, in addition to the present bytes
        self._pins: dict[str, int] = {}  # number of loads that read a model

    @property
    def free_bytes(self) -> int:
        """Capacity that is neither used nor reserved."""
        return self.capacity_bytes - self.used_bytes

    def resident_bytes(self, model: str) -> int:
        """Return the number of present bytes of a model."""
        return self._present_bytes.get(model, 0)

    def evictable(self) -> Iterator[str]:
        """Yield the models that can be evicted, least recently used first."""
        for model in self._present_bytes:
            if model not in self._pins and model not in self._reserved_bytes:
                yield model

    def reserved(self, model: str) -> bool:
        """Return True if space is reserved for a load of the model."""
        return model in self._reserved_bytes

    def reserve(self, model: str, num_bytes: int) -> None:
        """Reserve space for `num_bytes` of a model.

        Raises:
            ControlError: The space is not free.
        """
        if num_bytes > self.free_bytes:
            raise ControlError(
                f"{num_bytes} bytes of {model} do not fit: {self.free_bytes} are free"
            )
        self._reserved_bytes[model] = num_bytes
        self.used_bytes += num_bytes

    def fill(self, model: str) -> None:
        """Turn the reserved bytes of a model into present bytes."""
        num_bytes = self._reserved_bytes.pop(model)
        self._present_bytes[model] = self._present_bytes.pop(model, 0) + num_bytes

    def release(self, model: str) -> None:
        """Cancel the reservation for a model."""
        self.used_bytes -= self._reserved_bytes.pop(model)

    def put(self, model: str, num_bytes: int) -> None:
        """Add `num_bytes` of `model` that the tier holds when its server joins.

        Raises:
            UsageError: They do not fit, or the model is listed twice.
        """
        if model in self._present_bytes:
            raise UsageError(f"{model} is listed twice in one tier; list each model once")
        if num_bytes > self.free_bytes:
            raise UsageError(
                f"{num_bytes} bytes of {model} exceed the {self.free_bytes} free bytes of the tier"
            )
        self._present_bytes[model] = num_bytes
        self.used_bytes += num_bytes

    def evict(self, model: str, keep_bytes: int) -> None:
        """Remove all but `keep_bytes` of a model.

        Raises:
            ControlError: The model is pinned or has a reservation.
        """
        if model in self._pins or model in self._reserved_bytes:
            raise ControlError(f"{model} is in use and cannot be evicted")
        freed_bytes = self._present_bytes[model] - keep_bytes
        if keep_bytes:
            self._present_bytes[model] = keep_bytes
        else:
            del self._present_bytes[model]
        self.used_bytes -= freed_bytes

    def touch(self, model: str) -> None:
        """Mark `model` as the most recently used."""
        num_bytes = self._present_bytes.pop(model, None)
        if num_bytes is not None:
            self._present_bytes[model] = num_bytes

    def pin(self, model: str) -> None:
        """Protect a model from eviction until the matching `unpin`."""
        self._pins[model] = self._pins.get(model, 0) + 1

    def unpin(self, model: str) -> None:
        """Undo one `pin`."""
        self._pins[model] -= 1
        if not self._pins[model]:
            del self._pins[model]
