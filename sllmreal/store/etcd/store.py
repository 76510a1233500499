"""The store in an etcd cluster: it survives the loss of machines, and lets a standby take over.

It uses gRPC with the messages of `aetcd`. Connections, retries and watches are our own, because the
client of `aetcd` has one endpoint and no TLS, and ends its watches when a stream breaks. etcd's
JSON gateway would do without gRPC, but took 1.9 times as long for a put and 2.9 times for a get
(p50, medians of five interleaved rounds, one node on loopback, etcd 3.4.23, 2 CPUs shared with
others, November 2026: `python -m experiments.store`).

Let etcd compact by itself (`--auto-compaction-mode=revision --auto-compaction-retention=10000`),
or it fills its quota. Its limits on requests and operations may stay as they are.
"""

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from math import ceil
from typing import Any, TypeVar

from aetcd import rpc  # type: ignore[import-untyped]

from sllmreal.store.errors import LeaseLostError, OutcomeUnknownError, StoreUnavailableError
from sllmreal.store.etcd.endpoints import METADATA, Answer, Endpoint, Endpoints, EtcdTls, Patience
from sllmreal.store.etcd.failures import refusal
from sllmreal.store.etcd.messages import (
    end_key,
    first_key,
    key_value,
    txn_request,
    txn_result,
)
from sllmreal.store.etcd.watching import follow
from sllmreal.store.lease import Lease
from sllmreal.store.limits import (
    check_compaction,
    check_page,
    check_ttl,
    check_watch,
    checked_key,
    checked_prefix,
)
from sllmreal.store.puts import put_by_txn
from sllmreal.store.values import Event, KeyValue, Put, StoreSnapshot, Txn, TxnResult

R = TypeVar("R")
LEAST_TTL_S = 2  # etcd's least: one and a half election timeouts
PAGE_ITEMS = 64  # of at most 1 MiB each


class EtcdStore:
    """`Store` in etcd. Make it with `await EtcdStore.open([...])`.

    If the answer to a write is lost, the write is retried when `Txn.applies_once`. If the compares
    of the retry do not hold, the first try may be the reason: OutcomeUnknownError. The TTL of a
    lease is a whole number of seconds, at least 2.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    @classmethod
    async def open(
        cls,
        addresses: Sequence[str],
        tls: EtcdTls | None = None,
        patience: Patience | None = None,
    ) -> "EtcdStore":
        """Connect to a cluster's nodes, `host:port` each.

        Raises:
            StoreUnavailableError: No node answers, or etcd refuses the connection.
        """
        store = cls(Endpoints(addresses, tls, patience or Patience()))
        try:
            await store.get("0")
        except BaseException:
            await store.close()
            raise
        return store

    async def get(self, key: str) -> KeyValue | None:
        """See `Store.get`."""
        response = await self._range(rpc.RangeRequest(key=checked_key(key).encode()))
        return key_value(response.kvs[0]) if response.kvs else None

    async def range(
        self, prefix: str, *, after: str | None = None, limit: int | None = None
    ) -> StoreSnapshot:
        """See `Store.range`. Read in pages, all at the first one's revision."""
        checked_prefix(prefix)
        check_page(after, limit)
        first = max(first_key(prefix), after.encode() + b"\0" if after else b"")
        items: list[KeyValue] = []
        revision, more = 0, True
        while more and (limit is None or len(items) < limit):
            wanted = PAGE_ITEMS if limit is None else min(PAGE_ITEMS, limit - len(items))
            request = rpc.RangeRequest(
                key=first, range_end=end_key(prefix), limit=wanted, revision=revision
            )
            response = await self._range(request)
            revision = revision or response.header.revision
            items += [key_value(message) for message in response.kvs]
            more = response.more
            first = response.kvs[-1].key + b"\0" if more else first
        return StoreSnapshot(revision, tuple(items))

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        if_version: int | None = None,
        lease_id: int | None = None,
    ) -> int:
        """See `Store.put`."""
        return await put_by_txn(self.txn, Put(key, value, lease_id), if_version)

    async def txn(self, txn: Txn) -> TxnResult:
        """See `Store.txn`."""
        request = txn_request(txn)

        def attempt(node: Endpoint) -> Any:
            return node.kv.Txn(request, timeout=self._attempt_s, metadata=METADATA)

        if txn.reads_only:
            return txn_result(await self._ask(attempt))
        answer = await self._tell(attempt, repeatable=txn.applies_once)
        result = txn_result(answer.message)
        if answer.resent and not result.succeeded:
            raise OutcomeUnknownError("an answer was lost, and the retry's compares do not hold")
        return result

    async def lease(self, ttl_s: float) -> Lease:
        """See `Store.lease`."""
        check_ttl(ttl_s)
        lease_id = 1 + secrets.randbits(62)
        request = rpc.LeaseGrantRequest(ID=lease_id, TTL=max(LEAST_TTL_S, ceil(ttl_s)))

        async def attempt(node: Endpoint) -> float:
            try:
                response = await node.lease.LeaseGrant(
                    request, timeout=self._attempt_s, metadata=METADATA
                )
            except rpc.AioRpcError as error:
                if error.code() is rpc.StatusCode.FAILED_PRECONDITION:  # made by an earlier try
                    return float(request.TTL)
                raise
            return float(response.TTL)

        answer = await self._tell(attempt, repeatable=True)
        return Lease(self, lease_id, answer.message)

    async def keep_alive(self, lease_id: int) -> None:
        """See `Lease.keep_alive`."""
        request = rpc.LeaseKeepAliveRequest(ID=lease_id)

        async def attempt(node: Endpoint) -> float:
            call = node.lease.LeaseKeepAlive([request], timeout=self._attempt_s, metadata=METADATA)
            async for response in call:
                call.cancel()
                return float(response.TTL)
            raise StoreUnavailableError("etcd closed a keep-alive without an answer")

        if await self._ask(attempt) <= 0:
            raise LeaseLostError(f"lease {lease_id} has ended")

    async def revoke(self, lease_id: int) -> None:
        """See `Lease.revoke`."""
        request = rpc.LeaseRevokeRequest(ID=lease_id)

        async def attempt(node: Endpoint) -> None:
            try:
                await node.lease.LeaseRevoke(request, timeout=self._attempt_s, metadata=METADATA)
            except rpc.AioRpcError as error:
                if error.code() is not rpc.StatusCode.NOT_FOUND:  # the lease had ended before
                    raise

        await self._tell(attempt, repeatable=True)

    def watch(self, prefix: str, from_revision: int) -> AsyncGenerator[Event, None]:
        """See `Store.watch`."""
        check_watch(prefix, from_revision)
        return follow(self._endpoints, prefix, from_revision)

    async def compact(self, revision: int) -> None:
        """See `Store.compact`."""
        check_compaction(revision, (await self.range("0", limit=1)).revision)
        request = rpc.CompactionRequest(revision=revision)

        async def attempt(node: Endpoint) -> None:
            try:
                await node.kv.Compact(request, timeout=self._attempt_s, metadata=METADATA)
            except rpc.AioRpcError as error:
                if error.code() is not rpc.StatusCode.OUT_OF_RANGE:  # compacted before
                    raise

        await self._tell(attempt, repeatable=True)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._endpoints.close()

    @property
    def _attempt_s(self) -> float:
        return self._endpoints.patience.attempt_s

    async def _range(self, request: Any) -> Any:
        return await self._ask(
            lambda node: node.kv.Range(request, timeout=self._attempt_s, metadata=METADATA)
        )

    async def _ask(self, attempt: Callable[[Endpoint], Awaitable[R]]) -> R:
        try:
            return await self._endpoints.read(attempt)
        except rpc.AioRpcError as error:
            raise refusal(error) from error

    async def _tell(
        self, attempt: Callable[[Endpoint], Awaitable[R]], *, repeatable: bool
    ) -> Answer[R]:
        try:
            return await self._endpoints.write(attempt, repeatable=repeatable)
        except rpc.AioRpcError as error:
            raise refusal(error) from error
