"""Split loads: instances that run as a pipeline over several servers until all bytes have joined.

While the parts are on `parts` servers, the first with GPUs of its own and the others beside running
instances, a token takes as long as in HydraServe's worst case:

    time * (parts - 1 + 1 / parts) + hop * (parts - 1)

There the instances beside a part leave it 1 / parts of the GPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sllmsim.links import Hop, Link, Links, Transfer
from sllmsim.load_plan import LoadPart
from sllmsim.server import SimServer
from sllmsim.timing import InferenceTiming

HOP_S = 0.001  # between two stages: HydraServe's constant, from a secondary source [Q]


@dataclass(frozen=True, slots=True)
class PipelineTiming:
    """The `InferenceTiming` of `whole` while its weights are on `num_parts` servers."""

    whole: InferenceTiming
    num_parts: int

    @property
    def _factor(self) -> float:
        return self.num_parts - 1 + 1 / self.num_parts

    @property
    def _hops_s(self) -> float:
        return HOP_S * (self.num_parts - 1)

    @property
    def fixed_s(self) -> float:
        return self.whole.fixed_s * self._factor + self._hops_s

    @property
    def per_request_s(self) -> float:
        return self.whole.per_request_s * self._factor

    @property
    def per_context_token_s(self) -> float:
        return self.whole.per_context_token_s * self._factor

    def prefill_s(self, tokens: int) -> float:
        if tokens <= 0:
            return 0.0
        return self.whole.prefill_s(tokens) * self._factor + self._hops_s


class _Split:
    """A split load, from its command until all bytes are on the first server."""

    __slots__ = ("helpers", "left_bytes", "nic", "rest", "transfer")

    def __init__(self, helpers: tuple[SimServer, ...], nic: Link) -> None:
        self.helpers = helpers
        self.nic = nic  # the rest comes over it
        self.rest: LoadPart | None = None  # None: the parts are not loaded yet
        self.left_bytes: float = 0.0  # of the rest
        self.transfer: Transfer | None = None  # of the rest; None: it waits for the network


class Splits:
    """The instances that still need their helpers.

    The rest of a load is transferred while no other transfer uses its server's network, and gives
    way to each other transfer.

    Args:
        retime: Called with an instance id and the number of servers it runs over from then on.
    """

    def __init__(self, links: Links, retime: Callable[[str, int], None]) -> None:
        self._links = links
        self._retime = retime
        self._splits: dict[str, _Split] = {}  # by instance id

    def begin(self, instance_id: str, server: SimServer, helpers: tuple[SimServer, ...]) -> None:
        """Note that the parts of a load are being fetched."""
        self._splits[instance_id] = _Split(helpers, server.nic)
        self._retime(instance_id, 1 + len(helpers))

    def join(self, instance_id: str, rest: LoadPart) -> None:
        """Note that the parts are loaded; `go_on` fetches the rest to the first server."""
        split = self._splits[instance_id]
        split.rest, split.left_bytes = rest, rest.num_bytes

    def go_on(self) -> None:
        """Resume the rests of loads on networks that are free. To be called after each transfer."""
        for instance_id, split in self._splits.items():
            if split.rest is None or split.transfer is not None or split.nic.transfers:
                continue
            split.transfer = self._links.start(
                split.left_bytes,
                split.rest.hops,
                partial(self.whole, instance_id),
                split.rest.limit_bytes_per_s,
            )

    def make_way(self, hops: tuple[Hop, ...]) -> None:
        """Stop the rests of loads on the links of a transfer that is about to begin."""
        if not self._splits:
            return
        links = {hop.link for hop in hops}
        for split in self._splits.values():
            if split.transfer is not None and split.nic in links:
                split.left_bytes -= self._links.stop(split.transfer)
                split.transfer = None

    def whole(self, instance_id: str) -> None:
        """Note that all bytes are on the instance's own server: it needs no helper any more."""
        del self._splits[instance_id]
        self._retime(instance_id, 1)
        self.go_on()

    def end(self, instance_id: str) -> None:
        """Forget an instance that has ended; one that was whole is ignored."""
        split = self._splits.pop(instance_id, None)
        if split is not None and split.transfer is not None:
            self._links.stop(split.transfer)

    def helped_by(self, server: SimServer) -> list[str]:
        """Return the instances that need, or will need, a part on `server`."""
        return [i for i, split in self._splits.items() if server in split.helpers]
