"""The benchmark's leader, in a process of its own; it observes when loads are issued.

python -m experiments.benchmarks.control.leading --home DIRECTORY --store sqlite

It leads as `sllmreal.processes.leader` does. When it is stopped it writes the time of each load to
DIRECTORY/issued.json.
"""

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from sllmcore.build import PolicySettings
from sllmcore.residency import LruResidency
from sllmreal.control.home import Home, opened_home
from sllmreal.control.messages import FromLeader, FromPeer, LaunchInstance
from sllmreal.leader.leader import Leader, LeaderSettings
from sllmreal.leader.memory_log import MemoryLog
from sllmreal.leader.peers import PeerChannel
from sllmreal.processes.leader import lead, serve_peers
from sllmreal.processes.run import run_process
from sllmreal.store.sqlite import SqliteStore

STORES = ("memory", "sqlite")
ISSUED = "issued.json"


@dataclass(frozen=True, slots=True)
class Issued:
    """A `LaunchInstance` that has been posted to its worker.

    Attributes:
        at_s: The machine's monotonic clock.
        cpu_s: CPU time of the leader's process up to then.
    """

    instance_id: str
    at_s: float
    cpu_s: float


class ObservedChannel:
    """A peer's connection that records the loads that are posted to it."""

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
    """Lead with a policy that unloads idle instances at once and caches nothing."""
    issued: list[Issued] = []
    residency = LruResidency(keep_alive_s=0.0, caches_dram=False, caches_ssd=False)
    settings = LeaderSettings(PolicySettings(residency=residency))

    def observed(channel: PeerChannel) -> PeerChannel:
        return ObservedChannel(channel, issued)

    try:
        if kind == "memory":
            leader, never = Leader(settings, MemoryLog(), 1), asyncio.Event()
            await serve_peers(
                leader=leader,
                address=home.leader_socket,
                key=home.key(),
                deposed=never,
                wrap=observed,
            )
        else:
            store = await SqliteStore.open(home.store)
            try:
                await lead(home, store, settings, wrap=observed)
            finally:
                await store.close()
    finally:
        (home.directory / ISSUED).write_text(json.dumps([asdict(one) for one in issued]))


def main() -> int:
    """Run the process; see `run_process` for the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the cluster's directory")
    parser.add_argument("--store", choices=STORES, required=True)
    options = parser.parse_args()
    return run_process("leader", _main(opened_home(options.home), options.store))


if __name__ == "__main__":
    sys.exit(main())
