"""Links with fairly shared bandwidth: each transfer has the max-min fair share of its path.

A transfer crosses several links at once, each with a weight: a checkpoint for two GPUs crosses the
SSD with weight 1 and each PCIe link with weight 1/2. All rates grow together until a link is full;
the transfers that cross it keep their rates, and the others grow on (progressive filling). A change
affects only the transfers that are connected to it through full links.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from simpy.events import Event, Timeout

from sllmcore.errors import UsageError
from sllmsim.clock import SimClock

_ROUNDING = 1e-9  # relative; far above the rounding of a sum of a few hundred rates


class Link:
    """A shared resource: a direction of a NIC, an SSD, a PCIe link, a storage service."""

    __slots__ = (
        "bytes_moved",
        "bytes_per_s",
        "demand_bytes_per_s",
        "faults",
        "full_bytes_per_s",
        "name",
        "transfers",
    )

    def __init__(self, name: str, bytes_per_s: float) -> None:
        if not bytes_per_s > 0:
            raise UsageError(f"the bandwidth of {name} must be positive, got {bytes_per_s}")
        self.name = name
        self.bytes_per_s = self.full_bytes_per_s = bytes_per_s
        self.faults = 0  # faults that slow the link down now
        self.bytes_moved = 0.0
        self.transfers: dict[Transfer, float] = {}  # weights
        self.demand_bytes_per_s = 0.0  # sum over transfers of the rate that each has alone

    @property
    def contended(self) -> bool:
        """True if the transfers could use more than the bandwidth."""
        return self.demand_bytes_per_s > self.bytes_per_s * (1 + _ROUNDING)


@dataclass(frozen=True, slots=True)
class Hop:
    """A link on the path of a transfer, which puts `weight` bytes on it for each byte."""

    link: Link
    weight: float = 1.0


class Transfer:
    """Bytes on their way.

    Args:
        on_done: Called when the last byte has arrived.
        limit_bytes_per_s: Limit of the sender.
    """

    __slots__ = (
        "bound_bytes_per_s",
        "hops",
        "limit_bytes_per_s",
        "num_bytes",
        "on_done",
        "rate_bytes_per_s",
        "remaining_bytes",
        "timer",
        "updated_at_s",
    )

    def __init__(
        self,
        num_bytes: float,
        hops: tuple[Hop, ...],
        on_done: Callable[[], None],
        limit_bytes_per_s: float,
        now_s: float,
    ) -> None:
        self.num_bytes = num_bytes
        self.hops = hops
        self.on_done = on_done
        self.limit_bytes_per_s = limit_bytes_per_s
        self.bound_bytes_per_s = self.bound()
        self.rate_bytes_per_s = 0.0
        self.remaining_bytes = num_bytes
        self.updated_at_s = now_s
        self.timer: Timeout | None = None

    def bound(self) -> float:
        """Return the bytes per second of the transfer if no other shares its links."""
        bound = self.limit_bytes_per_s
        for hop in self.hops:
            bound = min(bound, hop.link.bytes_per_s / hop.weight)
        return bound


class Links:
    """All transfers of a simulation."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock

    def start(
        self,
        num_bytes: float,
        hops: tuple[Hop, ...],
        on_done: Callable[[], None],
        limit_bytes_per_s: float = inf,
    ) -> Transfer:
        """Send bytes along `hops`, at most as fast as `limit_bytes_per_s`."""
        transfer = Transfer(
            num_bytes=num_bytes,
            hops=hops,
            on_done=on_done,
            limit_bytes_per_s=limit_bytes_per_s,
            now_s=self._clock.now,
        )
        bound = transfer.bound_bytes_per_s
        contended = False
        for hop in hops:
            link = hop.link
            link.transfers[transfer] = hop.weight
            link.demand_bytes_per_s += bound * hop.weight
            contended = contended or (len(link.transfers) > 1 and link.contended)
        if contended:
            self._share(self._connected(transfer))
        else:
            self._set_rate(transfer, bound)
        return transfer

    def stop(self, transfer: Transfer) -> float:
        """Stop a transfer. Return the bytes that have arrived."""
        self._advance(transfer)
        self._remove(transfer)
        return transfer.num_bytes - transfer.remaining_bytes

    def set_bandwidth(self, link: Link, bytes_per_s: float) -> None:
        """Change the bandwidth of a link; 0 stops its transfers."""
        transfers = list(link.transfers)
        affected = {other: None for one in transfers for other in self._connected(one)}
        link.bytes_per_s = bytes_per_s
        for transfer in transfers:
            old = transfer.bound_bytes_per_s
            new = transfer.bound()
            transfer.bound_bytes_per_s = new
            for hop in transfer.hops:
                hop.link.demand_bytes_per_s += (new - old) * hop.weight
        affected.update({other: None for one in transfers for other in self._connected(one)})
        self._share(affected)

    def _finish(self, transfer: Transfer) -> None:
        transfer.remaining_bytes = 0.0
        self._remove(transfer)
        transfer.on_done()

    def _remove(self, transfer: Transfer) -> None:
        if transfer.timer is not None:
            self._clock.cancel(transfer.timer)
            transfer.timer = None
        alone = all(len(hop.link.transfers) == 1 for hop in transfer.hops)
        others = {} if alone else self._connected(transfer)
        moved_bytes = transfer.num_bytes - transfer.remaining_bytes
        for hop in transfer.hops:
            link = hop.link
            del link.transfers[transfer]
            link.bytes_moved += moved_bytes * hop.weight
            link.demand_bytes_per_s -= transfer.bound_bytes_per_s * hop.weight
            if not link.transfers:
                link.demand_bytes_per_s = 0.0  # remove the rounding
        others.pop(transfer, None)
        if others:
            self._share(others)

    def _connected(self, transfer: Transfer) -> dict[Transfer, None]:
        """Return the transfers that this one can affect: reached through contended links."""
        found = {transfer: None}
        queue = [transfer]
        while queue:
            for hop in queue.pop().hops:
                if not hop.link.contended:
                    continue
                for other in hop.link.transfers:
                    if other not in found:
                        found[other] = None
                        queue.append(other)
        return found

    def _share(self, transfers: Iterable[Transfer]) -> None:
        """Set the rates of transfers by progressive filling.

        No contended link may connect them to other transfers.
        """
        growing = dict.fromkeys(transfers)
        left = {
            hop.link: hop.link.bytes_per_s
            for transfer in growing
            for hop in transfer.hops
            if hop.link.contended
        }
        while growing:
            rate = min(transfer.bound_bytes_per_s for transfer in growing)
            full: Link | None = None
            for link, bytes_per_s in left.items():
                weight = _growing_weight(link, growing)
                if weight and bytes_per_s / weight < rate:
                    rate, full = bytes_per_s / weight, link
            frozen = [
                transfer
                for transfer in growing
                if (full is not None and transfer in full.transfers)
                or (full is None and transfer.bound_bytes_per_s <= rate)
            ]
            for transfer in frozen:
                del growing[transfer]
                self._set_rate(transfer, rate)
                for hop in transfer.hops:
                    if hop.link in left:
                        left[hop.link] = max(0.0, left[hop.link] - rate * hop.weight)

    def _advance(self, transfer: Transfer) -> None:
        now_s = self._clock.now
        moved_bytes = transfer.rate_bytes_per_s * (now_s - transfer.updated_at_s)
        transfer.remaining_bytes = max(0.0, transfer.remaining_bytes - moved_bytes)
        transfer.updated_at_s = now_s

    def _set_rate(self, transfer: Transfer, rate_bytes_per_s: float) -> None:
        if transfer.timer is not None and rate_bytes_per_s == transfer.rate_bytes_per_s:
            return
        self._advance(transfer)
        transfer.rate_bytes_per_s = rate_bytes_per_s
        if transfer.timer is not None:
            self._clock.cancel(transfer.timer)
            transfer.timer = None
        if rate_bytes_per_s > 0:
            delay_s = transfer.remaining_bytes / rate_bytes_per_s

            def finish(_: Event) -> None:
                self._finish(transfer)

            transfer.timer = self._clock.call_in(delay_s, finish)


def _growing_weight(link: Link, growing: dict[Transfer, None]) -> float:
    weight = 0.0
    for transfer, share in link.transfers.items():
        if transfer in growing:
            weight += share
    return weight
