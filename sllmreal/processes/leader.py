"""A leader's process: waits for the leadership, leads, and ends when the leadership is over.

    python -m sllmreal.processes.leader --home DIRECTORY [--store etcd:HOST:PORT,HOST:PORT,...]

Several may run on one etcd, each at an address of its own: one leads, the others stand by, and the
store has the present leader's address. With SQLite there is one, always at the same address. The
supervisor starts the process again when it has ended: the state is in the store.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from sllmcore.build import PolicySettings
from sllmcore.errors import UsageError
from sllmcore.journal import JournalReader, from_plain
from sllmcore.plugins import PLUGINS
from sllmreal import logs
from sllmreal.control.home import LEADER_KEY, Home, opened_home
from sllmreal.control.messages import FromPeer
from sllmreal.leader.control_loop import Compaction
from sllmreal.leader.leader import Leader, LeaderSettings
from sllmreal.leader.peers import PeerChannel
from sllmreal.leader.policy_support import check_supported_policy
from sllmreal.processes.claim import HANDOVER_S, claimed
from sllmreal.processes.policy_options import add_policy, served_policy
from sllmreal.processes.run import run_process
from sllmreal.store import JournalLog, Store, campaign
from sllmreal.store.errors import LeaseLostError
from sllmreal.store.registry import StoreUrl, parsed_store, store_help
from sllmreal.store.values import Delete, Txn
from sllmreal.transport.addresses import host_and_port
from sllmreal.transport.socket_channel import listening

_LOG = logging.getLogger(__name__)
LOG_PREFIX = "journal/"
LEASE_S = 2.0  # the shortest lease of etcd: a standby leads after it
# A store that one process at a time can open has no standby. A short lease would only end the
# leadership of a process that gets no CPU time or waits for a slow disk.
SOLE_LEASE_S = 60.0


Wrap = Callable[[PeerChannel], PeerChannel]


def _unwrapped(channel: PeerChannel) -> PeerChannel:
    return channel


async def lead(
    home: Home,
    store: Store,
    settings: LeaderSettings,
    address: str | None = None,
    wrap: Wrap = _unwrapped,
    lease_s: float = LEASE_S,
) -> None:
    """Wait for the leadership, then lead until deposed or cancelled.

    Args:
        home: The cluster's directory.
        store: The store of the leadership and the log.
        settings: The leader's settings.
        address: Where the leader listens; None: at the home's socket.
        wrap: Wraps the connection of each peer, so that a benchmark can observe it.
        lease_s: Length of the leader's lease.

    Raises:
        LeaseLostError: The lease has ended, for the reason in the message.
        ClusterError: Another error that ended the leadership.
    """
    address = address or home.leader_socket
    leadership = await campaign(store, LEADER_KEY, address.encode(), lease_s)
    try:
        log = await JournalLog.open(store, LOG_PREFIX, leadership)
        leader = Leader(settings, log, leadership.fencing)
        await serve_peers(
            leader=leader, address=address, key=home.key(), deposed=leadership.lost, wrap=wrap
        )
        raise LeaseLostError(f"the leadership is lost: {leadership.loss}")
    finally:
        await leadership.resign()


async def serve_peers(
    leader: Leader, address: str, key: bytes, deposed: asyncio.Event, wrap: Wrap = _unwrapped
) -> None:
    """Run a leader at an address until it is deposed. Raises ClusterError if its log fails."""

    async def serve(channel: PeerChannel) -> None:
        await leader.serve_peer(wrap(channel))

    async with leader.running() as leading, listening(address, key, FromPeer, serve):
        waiting = asyncio.create_task(deposed.wait())
        try:
            await asyncio.wait([leading, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if leading.done():
            leading.result()


def leader_settings(arguments: argparse.Namespace) -> LeaderSettings:
    """Return the settings that the command line gives. Raises UsageError for bad ones."""
    PLUGINS.allow(arguments.allow)
    if arguments.policy_file is None:
        policy, seed = served_policy(arguments), arguments.seed
    else:
        policy, seed = _read_policy(arguments.policy_file)
        check_supported_policy(policy.name)
    every_entries = arguments.compact_every
    compaction = None if every_entries == 0 else Compaction(every_entries)
    return LeaderSettings(policy, seed, compaction=compaction)


def _read_policy(file: Path) -> tuple[PolicySettings, int]:
    """Read policy and seed from the first line of a journal."""
    try:
        with file.open() as lines:
            header = JournalReader([lines.readline()])
        policy: PolicySettings = from_plain(PolicySettings, header.policy)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except (UsageError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{file} does not begin with a journal's header: {error}") from error
    return policy, header.seed


async def _main(arguments: argparse.Namespace) -> None:
    settings = leader_settings(arguments)
    home = opened_home(arguments.home)
    where = durable_store(arguments.store)
    place = leader_place(home, arguments.store, arguments.listen)
    async with AsyncExitStack() as stack:
        alone = not where.kind.shared  # with a shared store, standbys may share a home
        if alone:
            await stack.enter_async_context(claimed(home, "leader", HANDOVER_S))
        home.publish_leader(place)
        store = await where.opened(home.store)
        stack.push_async_callback(store.close)
        if alone:  # the lock on the file proves that the process of the last leadership has ended
            await store.txn(Txn((), (Delete(LEADER_KEY),)))
        lease_s = SOLE_LEASE_S if alone else LEASE_S
        await lead(home, store, settings, arguments.listen, lease_s=lease_s)


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
    """Return the `Site.leader` of a leader with that store and address.

    Raises:
        UsageError: The port is 0: the next leader would have another one.
    """
    if address is not None and host_and_port(address)[1] == 0:
        raise UsageError(
            f"a leader's port is fixed, so that workers find the next leader; got {address}"
        )
    return store if parsed_store(store).kind.shared else address or home.leader_socket


def main(argv: Sequence[str] | None = None) -> int:
    """Run the process; see `run_process` for the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the cluster's directory")
    parser.add_argument("--store", default="sqlite", help=store_help())
    parser.add_argument(
        "--listen", metavar="tcp:HOST:PORT", help="address for workers on other machines"
    )
    add_policy(parser)
    parser.add_argument(
        "--policy-file",
        type=Path,
        metavar="FILE",
        help="a journal; policy and seed are those of its first line, whatever --policy names",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the policy's random choices")
    parser.add_argument(
        "--compact-every",
        type=int,
        default=Compaction().every_entries,
        help="entries of the log between two snapshots; 0: keep all entries",
    )
    parser.add_argument(
        "--allow",
        nargs="*",
        default=[],
        metavar="MODULE:NAME",
        help="policies from outside the toolkit that may be imported",
    )
    logs.add_log_options(parser)
    arguments = parser.parse_args(argv)
    logs.configure_as_given(arguments)
    return run_process("leader", _main(arguments))


if __name__ == "__main__":
    sys.exit(main())
