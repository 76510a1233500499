"""The benchmark's leader, in a process of its own, as `sllmreal.processes.leader` runs one.

python -m experiments.benchmarks.control.leading --home DIRECTORY --store sqlite

When it is told to stop it writes when it issued each load to DIRECTORY/issued.json.
"""

import argparse
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from sllmcore.build import PolicySettings
from sllmcore.residency import LruResidency
from sllmreal.control.home import LEADER_KEY, Home, opened_home
from sllmreal.control.messages import FromLeader, FromPeer, LaunchInstance
from sllmreal.leader.leader import Leader, LeaderSettings
from sllmreal.leader.log_records import EventLog
from sllmreal.leader.memory_log import MemoryLog
from sllmreal.leader.peers import PeerChannel
from sllmreal.processes.leader import LEASE_S, LOG_PREFIX
from sllmreal.processes.run import run_process
from sllmreal.store import JournalLog, campaign
from sllmreal.store.sqlite import SqliteStore
from sllmreal.transport.socket_channel import listening

STORES = ("memory", "sqlite")
ISSUED = "issued.json"


@dataclass(frozen=True, slots=True)
class Issued:
    """A `Load` in its worker's connection, by the machine's monotonic clock; the CPU time of the
    process up to then."""

    instance_id: str
    at_s: float
    cpu_s: float


class NotingChannel:
    """A peer's connection; notes the loads that are posted to it."""

    def __init__(self, channel: PeerChannel, issued: list[Issued]) -> None:
        self._channel = channel
        self._issued = issued

    def post(self, message: FromLeader) -> None:
        self._channel.post(message)
        if isinstance(message, LaunchInstance):
            at_s, cpu_s = time.monotonic(), time.process_time()
            self._issued.append(Issued(message.instance_id, at_s, cpu_s))

    async def receive(self) -> FromPeer:
        return await self._channel.receive()

    def close(self) -> None:
        self._channel.close()


async def _main(home: Home, kind: str) -> None:
    issued: list[Issued] = []
    try:
        async with _opened(home, kind) as log:
            await _lead(home, log, issued)
    finally:
        (home.directory / ISSUED).write_text(json.dumps([asdict(one) for one in issued]))


@asynccontextmanager
async def _opened(home: Home, kind: str) -> AsyncIterator[EventLog]:
    match kind:
        case "memory":
            yield MemoryLog()
        case "sqlite":
            store = await SqliteStore.open(home.store)
            try:
                at = home.leader_socket.encode()
                leadership = await campaign(store, LEADER_KEY, at, LEASE_S)
                yield await JournalLog.open(store, LOG_PREFIX, leadership)
            finally:
                await store.close()
        case _:
            raise ValueError(f"a store is one of {STORES}, got {kind}")


async def _lead(home: Home, log: EventLog, issued: list[Issued]) -> None:
    """Idle instances leave at once, nothing is cached: every request is cold."""
    residency = LruResidency(keep_alive_s=0.0, caches_dram=False, caches_ssd=False)
    leader = Leader(LeaderSettings(PolicySettings(residency=residency)), log, 1)

    async def serve(channel: PeerChannel) -> None:
        await leader.serve_peer(NotingChannel(channel, issued))

    at = listening(home.leader_socket, home.key(), FromPeer, serve)
    async with leader.running() as leading, at:
        await leading


def main() -> int:
    """0 when told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the cluster's directory")
    parser.add_argument("--store", choices=STORES, required=True)
    options = parser.parse_args()
    return run_process("leader", _main(opened_home(options.home), options.store))


if __name__ == "__main__":
    sys.exit(main())
