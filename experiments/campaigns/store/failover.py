"""Kill the leader of three etcd nodes under writes: nothing acknowledged is lost; how long a stall?

    python -m experiments.campaigns.store.failover --kills 12

Four clients count up a key each by compare and a fifth watches one of the keys. After each kill the
node comes back with its data. Prints the stalls; exits 1 at the first loss.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from statistics import median
from typing import Self

from aetcd import rpc  # type: ignore[import-untyped]

from experiments.benchmarks.store.etcd_cluster import EtcdCluster
from sllmreal.store import Store
from sllmreal.store.errors import OutcomeUnknownError
from sllmreal.store.etcd import EtcdStore, Patience
from sllmreal.store.values import Written

CLIENTS = 4


async def leader_of(cluster: EtcdCluster) -> int:
    """The number of the node that leads: the one that names itself."""
    for number, address in enumerate(cluster.addresses):
        async with rpc.insecure_channel(address) as channel:
            status = await rpc.MaintenanceStub(channel).Status(rpc.StatusRequest())
            if status.leader == status.header.member_id:
                return number
    raise AssertionError("no node leads")


class _Counter:
    """Counts a key up by compare; notes what was acknowledged and the longest wait for that."""

    def __init__(self, store: Store, key: str) -> None:
        self.store = store
        self.key = key
        self.acknowledged = 0
        self.stall_s = 0.0
        self.grown = asyncio.Event()

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
            self.grown.set()

    async def grow(self, by: int) -> None:
        target = self.acknowledged + by
        while self.acknowledged < target:
            self.grown.clear()
            await self.grown.wait()


class Writers:
    """The clients, writing from entry to exit; an async context manager."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._counters: list[_Counter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._seen: list[int] = []
        self._heard = asyncio.Event()

    async def __aenter__(self) -> Self:
        for number in range(CLIENTS):
            store = await EtcdStore.open(self._addresses)
            self._counters.append(_Counter(store, f"k{number}"))
        self._tasks = [asyncio.create_task(counter.run()) for counter in self._counters]
        self._tasks.append(asyncio.create_task(self._watch()))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()
        for counter in self._counters:
            await counter.store.close()

    @property
    def acknowledged(self) -> int:
        """Writes, of all clients."""
        return sum(counter.acknowledged for counter in self._counters)

    @property
    def stall_s(self) -> float:
        """The longest that a client waited for an acknowledgement, since the last look."""
        longest_s = max(counter.stall_s for counter in self._counters)
        for counter in self._counters:
            counter.stall_s = 0.0
        return longest_s

    async def grow(self, by: int) -> None:
        """Return when every client has so many more acknowledged."""
        await asyncio.gather(*(counter.grow(by) for counter in self._counters))

    async def losses(self) -> list[str]:
        """Stop writing; say what is missing, from the store or from what the watcher saw."""
        while len(self._seen) < self._counters[0].acknowledged:
            self._heard.clear()
            await self._heard.wait()
        await self._stop()
        lost = []
        for counter in self._counters:
            item = await counter.store.get(counter.key)
            found = int(item.value) if item else 0
            if not counter.acknowledged <= found <= counter.acknowledged + 1:
                lost.append(f"{counter.key} is {found}, acknowledged {counter.acknowledged}")
        if self._seen != list(range(1, len(self._seen) + 1)):
            lost.append(f"the watcher saw {self._seen}")
        return lost

    async def _watch(self) -> None:
        first = self._counters[0]
        async with aclosing(first.store.watch(first.key, 1)) as events:
            async for event in events:
                assert isinstance(event, Written)
                self._seen.append(int(event.item.value))
                self._heard.set()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for result in results:
            if isinstance(result, Exception):
                raise result


async def _campaign(cluster: EtcdCluster, num_kills: int) -> int:
    patient = await EtcdStore.open(cluster.addresses, patience=Patience(total_s=30.0))
    await patient.close()
    stalls_s = []
    async with Writers(cluster.addresses) as writers:
        for _ in range(num_kills):
            await writers.grow(50)
            leader = await leader_of(cluster)
            cluster.kill(leader)
            await writers.grow(50)
            stalls_s.append(writers.stall_s)
            await asyncio.to_thread(cluster.restart, leader)
        if lost := await writers.losses():
            print("; ".join(lost))
            return 1
    print(f"{num_kills} leaders killed, 0 of {writers.acknowledged} acknowledged writes lost")
    print(f"stall {median(stalls_s):.2f} s, {min(stalls_s):.2f} to {max(stalls_s):.2f}")
    return 0


def main() -> int:
    """Kill as often as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.campaigns.store.failover", description=__doc__
    )
    parser.add_argument("--kills", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EtcdCluster(Path(folder), 3) as cluster:
        return asyncio.run(_campaign(cluster, options.kills))


if __name__ == "__main__":
    sys.exit(main())
