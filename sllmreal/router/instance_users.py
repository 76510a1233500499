"""The instances that open requests run on or migrate to, and the addresses of their workers."""

from collections.abc import Iterable


class InstanceUsers:
    """The requests that use each instance. An instance without requests is forgotten."""

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}  # of the worker, by instance id
        self._requests: dict[str, dict[str, None]] = {}  # in the order of `add`, by instance id

    def add(self, instance_id: str, address: str, request_id: str) -> None:
        """Add a request that uses an instance, which is at the worker's `address`."""
        self._addresses[instance_id] = address
        self._requests.setdefault(instance_id, {})[request_id] = None

    def address(self, instance_id: str) -> str:
        """Return the address of an instance's worker; empty if the instance is not known."""
        return self._addresses.get(instance_id, "")

    def at_other_workers(self, addresses: tuple[str, ...]) -> list[str]:
        """Return the instances that are not at a worker of `addresses`."""
        return [instance for instance, at in self._addresses.items() if at not in addresses]

    def remove_instance(self, instance_id: str) -> tuple[str, ...]:
        """Remove an instance; return the ids of its requests."""
        self._addresses.pop(instance_id, None)
        return tuple(self._requests.pop(instance_id, ()))

    def remove_request(self, request_id: str, instance_ids: Iterable[str]) -> None:
        """Remove a request from its instances."""
        for instance_id in instance_ids:
            requests = self._requests.get(instance_id, {})
            requests.pop(request_id, None)
            if not requests:
                self._requests.pop(instance_id, None)
                self._addresses.pop(instance_id, None)
