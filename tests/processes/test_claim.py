"""Claims: a role in a home has one process at a time. Gateways have names of their own.

Seeded bugs: `sllm serve` without a claim; gateways that share the name `gateway`.
"""

import asyncio
import os
from pathlib import Path

import pytest

from sllmcore.errors import UsageError
from sllmreal.cli import main as sllm
from sllmreal.control.home import opened_home
from sllmreal.control.messages import FromPeer
from sllmreal.leader.leader import Leader, LeaderSettings
from sllmreal.leader.memory_log import MemoryLog
from sllmreal.processes import leader, worker
from sllmreal.processes.attach import attached_gateway
from sllmreal.processes.claim import claimed
from sllmreal.store.sqlite.filelock import FileLock
from sllmreal.transport.socket_channel import listening
from tests.leader.led import until


@pytest.mark.usefixtures("log")
def test_a_second_serve_on_a_home_names_the_first_and_exits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = opened_home(tmp_path / "h")
    lock = FileLock(home.directory / "cluster.lock")

    code = sllm.main(["serve", "--home", str(home.directory), "--port", "0", "--paced"])

    lock.release()
    assert code == 2
    expected = f"sllm: a cluster runs in {home.directory} already (process {os.getpid()})\n"
    assert capsys.readouterr().err.endswith(expected)
    assert not (home.directory / "leader").exists(), "the first one's leader was left alone"


@pytest.mark.usefixtures("log")
def test_a_second_leader_or_worker_of_one_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = opened_home(tmp_path / "h")
    locks = [FileLock(home.directory / name) for name in ("leader.lock", "worker-s0.lock")]
    for module in (leader, worker):
        monkeypatch.setattr(module, "HANDOVER_S", 0.0)
    at = ["--home", str(home.directory)]

    assert leader.main(at) == 2
    assert worker.main([*at, "--server", "s0", "--paced"]) == 2

    for lock in locks:
        lock.release()
    error = capsys.readouterr().err
    assert f"a leader runs in {home.directory} already (process {os.getpid()})" in error
    assert f"worker s0 runs in {home.directory} already (process {os.getpid()})" in error
    assert not (home.directory / "leader").exists()


@pytest.mark.asyncio
async def test_a_successor_waits_for_the_process_that_has_the_role(tmp_path: Path) -> None:
    home = opened_home(tmp_path / "h")
    lock = FileLock(home.directory / "leader.lock")
    asyncio.get_running_loop().call_later(0.05, lock.release)

    async with claimed(home, "leader", wait_s=10.0):
        with pytest.raises(UsageError, match="a leader runs in"):
            async with claimed(home, "leader"):
                pass


@pytest.mark.asyncio
async def test_two_gateways_of_one_cluster_are_attached_side_by_side(tmp_path: Path) -> None:
    home = opened_home(tmp_path / "h")
    one = Leader(LeaderSettings(), MemoryLog(), 1)

    async with (
        one.running(),
        listening(home.leader_socket, home.key(), FromPeer, one.serve_peer),
        attached_gateway(home) as first,
        attached_gateway(home) as second,
    ):
        await until(lambda: first.link.connected.is_set() and second.link.connected.is_set())
        await asyncio.sleep(0.1)
        peers = list(one.peer_table.peers.values())

        assert [peer.kind for peer in peers] == ["gateway", "gateway"]
        assert all(peer.channel is not None for peer in peers)
        assert not any(peer.lost for peer in peers)


@pytest.mark.asyncio
async def test_a_gateway_that_is_lost_leaves_the_peer_table(tmp_path: Path) -> None:
    home = opened_home(tmp_path / "h")
    one = Leader(LeaderSettings(grace_s=0.05), MemoryLog(), 1)

    async with (
        one.running(),
        listening(home.leader_socket, home.key(), FromPeer, one.serve_peer),
    ):
        for _ in range(3):
            async with attached_gateway(home) as gateway:
                await until(gateway.link.connected.is_set)
        await until(lambda: not one.peer_table.peers)
