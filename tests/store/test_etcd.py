"""The store in etcd beyond the contract: nodes die, hang, and require authentication.

Seeded by hand and seen to fail: a watch that resumes from the revision it began at (events twice),
or one behind the next (one lost), or asks etcd for that very revision (a deletion compacted away);
a put without compare that is sent again; a conflict reported where an answer was lost; no request
for progress (a watch at a hung node waits for ever).
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from experiments.benchmarks.store.etcd_cluster import ETCD, EtcdCluster
from experiments.campaigns.store.failover import EtcdWriters, leader_of
from sllmcore.errors import UsageError
from sllmreal.store import JournalLog, campaign, read_lines
from sllmreal.store.errors import (
    CompactedError,
    OutcomeUnknownError,
    StoreUnavailableError,
)
from sllmreal.store.etcd import EtcdStore, EtcdTls, Patience
from sllmreal.store.values import Delete, Txn
from tests.store.conftest import first_events
from tests.store.proxy import Proxy

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(ETCD is None, reason="etcd is not installed (Debian: etcd-server)"),
]


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[EtcdCluster]:
    """Three nodes, ready."""
    with EtcdCluster(tmp_path, 3) as cluster:
        store = await EtcdStore.open(cluster.addresses, patience=Patience(total_s=20.0))
        await store.close()
        yield cluster


async def test_a_dead_leader_loses_no_acknowledged_write(cluster: EtcdCluster) -> None:
    async with EtcdWriters(cluster.addresses) as writers:
        await writers.wait_for(20)
        cluster.kill(await leader_of(cluster))
        await writers.wait_for(20)

        assert await writers.losses() == []
    print(
        f"leader killed: 0 of {writers.acknowledged} acknowledged writes lost, "
        f"stall {writers.stall_s:.2f} s"
    )


async def test_a_node_that_hangs_is_left_for_another(cluster: EtcdCluster) -> None:
    leader = await leader_of(cluster)
    follower = (leader + 1) % 3
    addresses = [cluster.addresses[follower], cluster.addresses[leader]]
    store = await EtcdStore.open(addresses)
    async with aclosing(store.watch("a", 1)) as events:
        version = await store.put("a", b"1")
        assert (await anext(events)).revision == version
        cluster.freeze(follower)

        first = await store.get("a")
        with suppress(OutcomeUnknownError):  # a busy machine may lose the answer
            await store.put("a", b"2", if_version=version)
        second = await store.get("a")
        event = await anext(events)

    assert first is not None
    assert (first.value, first.version) == (b"1", version)
    assert second is not None
    assert (second.value, second.version) == (b"2", event.revision)
    cluster.thaw(follower)
    await store.close()


async def test_without_a_majority_writes_fail_and_say_how(cluster: EtcdCluster) -> None:
    store = await EtcdStore.open(cluster.addresses, patience=Patience(total_s=0.5))
    version = await store.put("a", b"1")
    leader = await leader_of(cluster)
    cluster.kill((leader + 1) % 3)
    cluster.kill((leader + 2) % 3)

    with pytest.raises(OutcomeUnknownError):
        await store.put("a", b"2")
    with pytest.raises((OutcomeUnknownError, StoreUnavailableError)):
        await store.put("a", b"2", if_version=version)
    with pytest.raises(StoreUnavailableError):
        await store.get("a")
    with pytest.raises(StoreUnavailableError):
        await (await store.lease(2.0)).keep_alive()
    cluster.kill(leader)
    # The first call may use a connection before its end is noticed.
    with suppress(OutcomeUnknownError, StoreUnavailableError):
        await store.put("a", b"3")
    with pytest.raises(StoreUnavailableError):
        await store.put("a", b"3")

    await store.close()


_FORKING = """
import asyncio, subprocess, sys
from sllmreal.store.etcd import EtcdStore

async def main():
    store = await EtcdStore.open([sys.argv[1]])
    async def read():
        while True:
            await store.get("forking")
    readers = [asyncio.create_task(read()) for _ in range(4)]
    for _ in range(50):
        await asyncio.to_thread(subprocess.run, ["true"], preexec_fn=int)  # a fork, not a vfork
    assert not any(reader.done() for reader in readers)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    await store.close()

asyncio.run(main())
"""


async def test_a_client_may_start_processes(etcd_node: EtcdCluster) -> None:
    """Without grpc's handlers at each fork, which complain if they meet a call."""
    command = [sys.executable, "-c", _FORKING, etcd_node.addresses[0]]

    child = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    _, told = await child.communicate()

    assert child.returncode == 0, told.decode()
    assert "fork_posix" not in told.decode()


async def test_a_watch_goes_on_after_its_line_was_cut(etcd_node: EtcdCluster) -> None:
    direct = await EtcdStore.open(etcd_node.addresses)
    async with Proxy(etcd_node.addresses[0]) as line:
        store = await EtcdStore.open([line.address])
        first = await direct.put("cut/a", b"1")
        async with aclosing(store.watch("cut/", first)) as events:
            await anext(events)
            line.cut()
            second = await direct.put("cut/a", b"2")
            third = await direct.put("cut/b", b"3")
            line.mend()

            assert [(await anext(events)).revision for _ in range(2)] == [second, third]
        await store.close()
    await direct.close()


async def test_a_watch_from_before_a_compaction_gets_an_error(
    etcd_node: EtcdCluster,
) -> None:
    """By one revision, too: etcd 3.4.23 accepts such a watch, and has lost the deletion."""
    direct = await EtcdStore.open(etcd_node.addresses)
    async with Proxy(etcd_node.addresses[0]) as line:
        store = await EtcdStore.open([line.address])
        first = await direct.put("cut/a", b"1")
        async with aclosing(store.watch("cut/", first)) as events:
            await anext(events)
            line.cut()
            removed = (await direct.txn(Txn((), (Delete("cut/a"),)))).revision
            await direct.compact(removed)
            line.mend()

            with pytest.raises(CompactedError) as behind:
                await anext(events)
        assert behind.value.oldest == removed + 1
        await store.close()
    await direct.close()


async def test_a_lost_answer_is_never_taken_for_a_failure(etcd_node: EtcdCluster) -> None:
    direct = await EtcdStore.open(etcd_node.addresses)
    async with Proxy(etcd_node.addresses[0]) as line:
        store = await EtcdStore.open([line.address])
        version = await store.put("lost/a", b"1")

        line.hold_answers()
        with pytest.raises(OutcomeUnknownError):
            await store.put("lost/b", b"unconditional")
        compared = asyncio.create_task(store.put("lost/a", b"2", if_version=version))
        await first_events(direct, "lost/a", version + 1, 1)
        await asyncio.sleep(store._endpoints.patience.attempt_s)  # after one attempt
        line.pass_answers()

        with pytest.raises(OutcomeUnknownError):
            await compared
        item = await direct.get("lost/b")
        assert item is not None
        assert (item.value, item.version) == (b"unconditional", item.created)
        await store.close()
    await direct.close()


async def test_closing_ends_the_calls_under_way(etcd_node: EtcdCluster) -> None:
    direct = await EtcdStore.open(etcd_node.addresses)
    async with Proxy(etcd_node.addresses[0]) as line:
        store = await EtcdStore.open([line.address])
        began = (await direct.range("closing")).revision
        line.hold_answers()
        put = asyncio.create_task(store.put("closing", b""))
        get = asyncio.create_task(store.get("closing"))
        await first_events(direct, "closing", began + 1, 1)

        await store.close()

        with pytest.raises(OutcomeUnknownError):
            await put
        with pytest.raises(StoreUnavailableError):
            await get
    await direct.close()


async def test_a_log_gets_over_lost_answers(etcd_node: EtcdCluster) -> None:
    direct = await EtcdStore.open(etcd_node.addresses)
    async with Proxy(etcd_node.addresses[0]) as line:
        store = await EtcdStore.open([line.address])
        began = (await direct.range("log")).revision
        log = await JournalLog.open(store, "log", await campaign(store, "leader", b"", 30.0))
        await log.append(["1"])

        line.hold_answers()
        appended = asyncio.create_task(log.append(["2"]))
        await first_events(direct, "log/batch/", began + 1, 2)
        await asyncio.sleep(store._endpoints.patience.attempt_s)  # after one attempt
        line.pass_answers()

        assert await appended == 1
        assert await log.append(["3"]) == 2
        assert [text async for text in read_lines(direct, "log")] == ["1", "2", "3"]
        await store.close()
    await direct.close()


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certificates(folder: Path) -> EtcdTls:
    """Write an authority, and one certificate of it for both ends."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl(folder, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    _openssl(folder, "req", *key, "-keyout", "node.key", "-out", "node.csr", "-subj", "/CN=node")
    (folder / "node.ext").write_text("subjectAltName = IP:127.0.0.1\n")
    _openssl(
        folder,
        *("x509", "-req", "-in", "node.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
        *("-CAcreateserial", "-out", "node.pem", "-extfile", "node.ext"),
    )
    return EtcdTls(folder / "ca.pem", folder / "node.pem", folder / "node.key")


async def test_by_tls_both_ends_show_who_they_are(tmp_path: Path) -> None:
    for name in ("ours", "foreign", "etcd"):
        (tmp_path / name).mkdir()
    ours, foreign = certificates(tmp_path / "ours"), certificates(tmp_path / "foreign")
    strangers = [
        None,
        replace(ours, certificate=None, key=None),
        foreign,
        replace(ours, ca=foreign.ca),
    ]
    with EtcdCluster(tmp_path / "etcd", 1, ours) as node:
        store = await EtcdStore.open(node.addresses, ours, Patience(total_s=20.0))
        lease = await store.lease(5.0)
        revision = await store.put("a", b"1", lease_id=lease.id)
        await lease.keep_alive()
        async with aclosing(store.watch("a", revision)) as events:
            assert (await anext(events)).revision == revision

        for stranger in strangers:
            with pytest.raises(StoreUnavailableError):
                await EtcdStore.open(node.addresses, stranger, Patience(total_s=0.3))

        await store.close()


async def test_a_cluster_has_an_endpoint() -> None:
    with pytest.raises(UsageError):
        await EtcdStore.open([])
