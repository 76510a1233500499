"""What one cache tier of one server holds: bytes per model, room promised, and who may not go."""

from collections.abc import Iterator

from sllmcore.errors import ControlError, UsageError


class TierCache:
    """Models in one tier, least recently used first. Partly resident models count their bytes.

    Room is promised to a load before its bytes arrive (`reserve`), so that the tier can never be
    over capacity. A pinned model is being read or written and cannot be evicted.
    """

    __slots__ = ("_pins", "_present_bytes", "_reserved_bytes", "capacity_bytes", "used_bytes")

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0  # present and promised
        self._present_bytes: dict[str, int] = {}  # in order of last use
        self._reserved_bytes: dict[str, int] = {}  # promised on top of those present
        self._pins: dict[str, int] = {}

    @property
    def free_bytes(self) -> int:
        return self.capacity_bytes - self.used_bytes

    def resident_bytes(self, model: str) -> int:
        return self._present_bytes.get(model, 0)

    def evictable(self) -> Iterator[str]:
        """Models that may go, least recently used first."""
        for model in self._present_bytes:
            if model not in self._pins and model not in self._reserved_bytes:
                yield model

    def reserved(self, model: str) -> bool:
        return model in self._reserved_bytes

    def reserve(self, model: str, num_bytes: int) -> None:
        if num_bytes > self.free_bytes:
            raise ControlError(f"{num_bytes} bytes for {model} do not fit {self.free_bytes}")
        self._reserved_bytes[model] = num_bytes
        self.used_bytes += num_bytes

    def fill(self, model: str) -> None:
        """The promised bytes have arrived."""
        num_bytes = self._reserved_bytes.pop(model)
        self._present_bytes[model] = self._present_bytes.pop(model, 0) + num_bytes

    def release(self, model: str) -> None:
        """The promised bytes will not come."""
        self.used_bytes -= self._reserved_bytes.pop(model)

    def put(self, model: str, num_bytes: int) -> None:
        """The tier was found to hold `num_bytes` of `model` already.

        Raises:
            UsageError: They do not fit.
        """
        if model in self._present_bytes:
            raise UsageError(f"{model} is declared twice in one tier")
        if num_bytes > self.free_bytes:
            raise UsageError(f"{num_bytes} bytes of {model} exceed the {self.free_bytes} left")
        self._present_bytes[model] = num_bytes
        self.used_bytes += num_bytes

    def evict(self, model: str, keep_bytes: int) -> None:
        if model in self._pins or model in self._reserved_bytes:
            raise ControlError(f"{model} is in use and cannot be evicted")
        freed_bytes = self._present_bytes[model] - keep_bytes
        if keep_bytes:
            self._present_bytes[model] = keep_bytes
        else:
            del self._present_bytes[model]
        self.used_bytes -= freed_bytes

    def touch(self, model: str) -> None:
        """`model` was used: it becomes the last to go."""
        num_bytes = self._present_bytes.pop(model, None)
        if num_bytes is not None:
            self._present_bytes[model] = num_bytes

    def pin(self, model: str) -> None:
        self._pins[model] = self._pins.get(model, 0) + 1

    def unpin(self, model: str) -> None:
        self._pins[model] -= 1
        if not self._pins[model]:
            del self._pins[model]
