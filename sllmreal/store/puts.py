"""A single conditional put, as a transaction."""

from collections.abc import Awaitable, Callable

from sllmreal.store.errors import ConflictError
from sllmreal.store.values import Get, Put, Txn, TxnResult, VersionIs


async def put_by_txn(
    transact: Callable[[Txn], Awaitable[TxnResult]], put: Put, if_version: int | None
) -> int:
    """Do what `Store.put` does, by a transaction."""
    if if_version is None:
        return (await transact(Txn((), (put,)))).revision
    compare = VersionIs(put.key, if_version)
    result = await transact(Txn((compare,), (put,), (Get(put.key),)))
    if not result.succeeded:
        found = result.found[0]
        raise ConflictError(put.key, if_version, found.version if found else 0)
    return result.revision
