"""Kill the leading node of three etcd nodes under writes; check that no acknowledged write is lost.

    python -m experiments.campaigns.store.failover --kills 12

Four clients each increment a key by compare-and-put, and a fifth watches one of the keys. After
each kill the node is started again with its data. Prints how long writes stalled.

Duration: about 3 s per kill. Exit status: 1 if a write or a watch event was lost.
"""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from statistics import median
from typing import Self

from aetcd import rpc  # type: ignore[import-untyped]

from experiments.benchmarks.store.etcd_cluster import ETCD, EtcdCluster
from experiments.benchmarks.terminal import ProgressLine, command_parser
from sllmreal.store import Store
from sllmreal.store.errors import OutcomeUnknownError
from sllmreal.store.etcd import EtcdStore, Patience
from sllmreal.store.values import Written

CLIENTS = 4


async def leader_of(cluster: EtcdCluster) -> int:
    """Return the number of the leading node. Raises AssertionError if there is none."""
    for number, address in enumerate(cluster.addresses):
        async with rpc.insecure_channel(address) as channel:
            status = await rpc.MaintenanceStub(channel).Status(rpc.StatusRequest())
            if status.leader == status.header.member_id:
                return number
    raise AssertionError("no node leads")


class _IncrementingClient:
    """A client that increments a key by compare-and-put.

    Attributes:
        acknowledged: The last acknowledged number.
        stall_s: The longest wait for an acknowledgement.
    """

    def __init__(self, store: Store, key: str) -> None:
        self.store = store
        self.key = key
        self.acknowledged = 0
        self.stall_s = 0.0
        self._progressed = asyncio.Event()

    async def run(self) -> None:
        loop, version = asyncio.get_running_loop(), 0
        while True:
            began_s = loop.time()
            value = str(self.acknowledged + 1).encode()
            try:
                version = await self.store.put(self.key, value, if_version=version)
            except OutcomeUnknownError:
                item = await self.store.get(self.key)
                version = item.version if item else 0
                if item is None or item.value != value:
                    continue
            self.acknowledged += 1
            self.stall_s = max(self.stall_s, loop.time() - began_s)
            self._progressed.set()

    async def wait_for(self, num_more: int) -> None:
        target = self.acknowledged + num_more
        while self.acknowledged < target:
            self._progressed.clear()
            await self._progressed.wait()


class EtcdWriters:
    """Clients that write from entry to exit of this async context manager, and a watcher."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._clients: list[_IncrementingClient] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._watched: list[int] = []
        self._received = asyncio.Event()

    async def __aenter__(self) -> Self:
        for number in range(CLIENTS):
            store = await EtcdStore.open(self._addresses)
            self._clients.append(_IncrementingClient(store, f"k{number}"))
        self._tasks = [asyncio.create_task(client.run()) for client in self._clients]
        self._tasks.append(asyncio.create_task(self._watch()))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()
        for client in self._clients:
            await client.store.close()

    @property
    def acknowledged(self) -> int:
        """Acknowledged writes of all clients."""
        return sum(client.acknowledged for client in self._clients)

    @property
    def stall_s(self) -> float:
        """The longest wait for an acknowledgement since this was read last. Reading resets it."""
        longest_s = max(client.stall_s for client in self._clients)
        for client in self._clients:
            client.stall_s = 0.0
        return longest_s

    async def wait_for(self, num_more: int) -> None:
        """Wait until each client has `num_more` further acknowledged writes."""
        await asyncio.gather(*(client.wait_for(num_more) for client in self._clients))

    async def losses(self) -> list[str]:
        """Stop writing; return a line for each write missing in the store or in the watch."""
        while len(self._watched) < self._clients[0].acknowledged:
            self._received.clear()
            await self._received.wait()
        await self._stop()
        lost = []
        for client in self._clients:
            item = await client.store.get(client.key)
            found = int(item.value) if item else 0
            if not client.acknowledged <= found <= client.acknowledged + 1:
                lost.append(f"{client.key} is {found}, acknowledged {client.acknowledged}")
        if self._watched != list(range(1, len(self._watched) + 1)):
            lost.append(f"the watcher received {self._watched}")
        return lost

    async def _watch(self) -> None:
        first = self._clients[0]
        async with aclosing(first.store.watch(first.key, 1)) as events:
            async for event in events:
                assert isinstance(event, Written)
                self._watched.append(int(event.item.value))
                self._received.set()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for result in results:
            if isinstance(result, Exception):
                raise result


async def _campaign(cluster: EtcdCluster, num_kills: int) -> int:
    ready = await EtcdStore.open(cluster.addresses, patience=Patience(total_s=30.0))
    await ready.close()
    stalls_s = []
    async with EtcdWriters(cluster.addresses) as writers:
        with ProgressLine("kills", num_kills) as progress:
            for number in range(num_kills):
                await writers.wait_for(50)
                leader = await leader_of(cluster)
                cluster.kill(leader)
                await writers.wait_for(50)
                stalls_s.append(writers.stall_s)
                await asyncio.to_thread(cluster.restart, leader)
                progress.show(number + 1, f"{writers.acknowledged:,} acknowledged writes")
        if lost := await writers.losses():
            print("; ".join(lost))
            return 1
    print(f"{num_kills} leaders killed, 0 of {writers.acknowledged} acknowledged writes lost")
    print(f"stall {median(stalls_s):.2f} s, {min(stalls_s):.2f} to {max(stalls_s):.2f}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; return 1 if a write was lost."""
    parser = command_parser("experiments.campaigns.store.failover", __doc__)
    parser.add_argument("--kills", type=int, default=5, help="leading nodes to kill")
    options = parser.parse_args(argv)
    if ETCD is None:
        parser.error("needs etcd, which is not on PATH: apt-get install etcd-server")
    with tempfile.TemporaryDirectory() as folder, EtcdCluster(Path(folder), 3) as cluster:
        return asyncio.run(_campaign(cluster, options.kills))


if __name__ == "__main__":
    sys.exit(main())
