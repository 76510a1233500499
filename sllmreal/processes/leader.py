"""A leader's process: waits for the leadership, leads, and ends when it is over.

    python -m sllmreal.processes.leader --home DIRECTORY [--store etcd:HOST:PORT,HOST:PORT,...]

Several may run on one etcd, each at an address of its own: one leads, the others stand by, and the
store says where the leader listens. With SQLite there is one, always at the same address. Whoever
runs it starts it again when it has ended: what it knew is in the store.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from sllmcore.errors import UsageError
from sllmreal.control.home import LEADER_KEY, Home, opened_home
from sllmreal.control.messages import FromPeer
from sllmreal.leader.control_loop import Compaction
from sllmreal.leader.leader import Leader, LeaderSettings
from sllmreal.processes.policy_options import add_policy, served_policy
from sllmreal.processes.run import run_process
from sllmreal.store import JournalLog, Store, campaign
from sllmreal.store.registry import StoreUrl, parsed_store, store_help
from sllmreal.transport.addresses import host_and_port
from sllmreal.transport.socket_channel import listening

LOG_PREFIX = "journal/"
LEASE_S = 2.0  # etcd keeps none shorter


async def lead(
    home: Home, store: Store, settings: LeaderSettings, address: str | None = None
) -> None:
    """Lead until deposed or cancelled, at an address or the home's socket.

    Raises what ended the leadership.
    """
    address = address or home.leader_socket
    leadership = await campaign(store, LEADER_KEY, address.encode(), LEASE_S)
    try:
        log = await JournalLog.open(store, LOG_PREFIX, leadership)
        leader = Leader(settings, log, leadership.fencing)
        async with (
            leader.running() as leading,
            listening(address, home.key(), FromPeer, leader.serve_peer),
        ):
            deposed = asyncio.create_task(leadership.lost.wait())
            try:
                await asyncio.wait([leading, deposed], return_when=asyncio.FIRST_COMPLETED)
            finally:
                deposed.cancel()
            if leading.done():
                leading.result()
    finally:
        await leadership.resign()


async def _main(arguments: argparse.Namespace) -> None:
    policy = served_policy(arguments)
    compaction = Compaction(arguments.compact_every)
    settings = LeaderSettings(policy, arguments.seed, compaction=compaction)
    home = opened_home(arguments.home)
    where = durable_store(arguments.store)
    home.publish_leader(leader_place(home, arguments.store, arguments.listen))
    store = await where.opened(home.store)
    try:
        await lead(home, store, settings, arguments.listen)
    finally:
        await store.close()


def durable_store(url: str) -> StoreUrl:
    """Return a leader's store. Raises UsageError for a URL that is wrong or of no durable store."""
    where = parsed_store(url)
    if not where.kind.durable:
        raise UsageError(
            f"--store {url}: a leader that restarts has to find its log, which this store forgets: "
            "take a durable one, such as sqlite"
        )
    return where


def leader_place(home: Home, store: str, address: str | None) -> str:
    """Where to look for a leader with that store and address. Raises UsageError for port 0."""
    if address is not None and host_and_port(address)[1] == 0:
        raise UsageError("a leader's port is fixed, for its workers to find the next one")
    return store if parsed_store(store).kind.shared else address or home.leader_socket


def main(argv: Sequence[str] | None = None) -> int:
    """0 when told to stop; 1 when the leadership or the store was lost; 2 for bad arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the cluster's directory")
    parser.add_argument("--store", default="sqlite", help=store_help())
    parser.add_argument("--listen", metavar="tcp:HOST:PORT", help="for workers on other machines")
    add_policy(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--compact-every",
        type=int,
        default=Compaction().every_entries,
        help="entries of the log between two snapshots",
    )
    return run_process("leader", _main(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
