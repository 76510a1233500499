"""Split loads after their start: a pipeline over several servers, until the rest has joined.

While the parts lie on `parts` servers, the first on a GPU of its own and the others beside what
runs there, tokens take as long as HydraServe reckons with:

    time * (parts - 1 + 1 / parts) + hop * (parts - 1)

That is its worst case, in which what runs beside a part leaves it 1 / parts of the GPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sllmsim.links import Hop, Link, Links, Transfer
from sllmsim.load_plan import LoadPart
from sllmsim.server import SimServer
from sllmsim.timing import InferenceTiming

HOP_S = 0.001  # between two stages: HydraServe's constant, as reported by a secondary source [Q]


@dataclass(frozen=True, slots=True)
class PipelineTiming:
    """An `InferenceTiming`: that of `whole` as long as its weights lie in `num_parts` places."""

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
    """One split load, from its command until its parts have joined."""

    __slots__ = ("helpers", "left_bytes", "nic", "rest", "transfer")

    def __init__(self, helpers: tuple[SimServer, ...], nic: Link) -> None:
        self.helpers = helpers
        self.nic = nic  # over which the rest comes
        self.rest: LoadPart | None = None  # known once the parts are in
        self.left_bytes: float = 0.0
        self.transfer: Transfer | None = None  # under way; None: it waits for the network


class Splits:
    """Which instances still need their helpers. The rest of a load moves while nothing else wants
    its server's network, and gives way to whatever does.

    Args:
        retime: Called with an instance and over how many servers it runs from now on.
    """

    def __init__(self, links: Links, retime: Callable[[str, int], None]) -> None:
        self._links = links
        self._retime = retime
        self._splits: dict[str, _Split] = {}  # by instance id

    def begin(self, instance_id: str, server: SimServer, helpers: tuple[SimServer, ...]) -> None:
        """The parts are on their way."""
        self._splits[instance_id] = _Split(helpers, server.nic)
        self._retime(instance_id, 1 + len(helpers))

    def join(self, instance_id: str, rest: LoadPart) -> None:
        """The parts are in: fetch the others to where the first one is, as soon as `go_on`."""
        split = self._splits[instance_id]
        split.rest, split.left_bytes = rest, rest.num_bytes

    def go_on(self) -> None:
        """A transfer has ended: who waited for a network that is free has it."""
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
        """A transfer is about to begin: whatever else moves there waits."""
        if not self._splits:
            return
        links = {hop.link for hop in hops}
        for split in self._splits.values():
            if split.transfer is not None and split.nic in links:
                split.left_bytes -= self._links.stop(split.transfer)
                split.transfer = None

    def whole(self, instance_id: str) -> None:
        """All bytes are where the instance is: it needs nobody any more."""
        del self._splits[instance_id]
        self._retime(instance_id, 1)
        self.go_on()

    def end(self, instance_id: str) -> None:
        """The instance is gone; nothing happens if it was whole."""
        split = self._splits.pop(instance_id, None)
        if split is not None and split.transfer is not None:
            self._links.stop(split.transfer)

    def helped_by(self, server: SimServer) -> list[str]:
        """Instances that need a part which lies, or is to lie, on `server`."""
        return [i for i, split in self._splits.items() if server in split.helpers]
