"""Conversion between the store's values and etcd's messages."""

from typing import Any, assert_never

from aetcd import rpc  # type: ignore[import-untyped]

from sllmreal.store.limits import BEHIND_ALL_KEYS
from sllmreal.store.values import (
    Compare,
    CreatedIs,
    Delete,
    DeleteRange,
    Event,
    Get,
    KeyValue,
    Operation,
    Put,
    Removed,
    Txn,
    TxnResult,
    VersionIs,
    Written,
)

_DELETED = 1  # mvccpb.Event.EventType


def first_key(prefix: str) -> bytes:
    """Return the first possible key of a prefix."""
    return prefix.encode() or b"\0"


def end_key(prefix: str) -> bytes:
    """Return the end of the keys of a prefix."""
    return (prefix + BEHIND_ALL_KEYS).encode()


def key_value(message: Any) -> KeyValue:
    """Convert a mvccpb.KeyValue."""
    return KeyValue(
        _key(message),
        message.value,
        message.mod_revision,
        message.create_revision,
        message.lease or None,
    )


def event(message: Any) -> Event:
    """Convert a mvccpb.Event."""
    if message.type == _DELETED:
        return Removed(_key(message.kv), message.kv.mod_revision)
    return Written(key_value(message.kv))


def _key(message: Any) -> str:
    key: bytes = message.key
    return key.decode("ascii", "backslashreplace")  # others may write other keys


def txn_request(txn: Txn) -> Any:
    """Return a transaction as etcdserverpb.TxnRequest."""
    return rpc.TxnRequest(
        compare=[_compare(compare) for compare in txn.compares],
        success=[_operation(operation) for operation in txn.then],
        failure=[_operation(operation) for operation in txn.otherwise],
    )


def _compare(compare: Compare) -> Any:
    match compare:
        case VersionIs(key, version):
            return rpc.Compare(
                key=key.encode(),
                target=rpc.Compare.MOD,
                result=rpc.Compare.EQUAL,
                mod_revision=version,
            )
        case CreatedIs(key, created):
            return rpc.Compare(
                key=key.encode(),
                target=rpc.Compare.CREATE,
                result=rpc.Compare.EQUAL,
                create_revision=created,
            )
        case _:
            assert_never(compare)


def _operation(operation: Operation) -> Any:
    match operation:
        case Put(key, value, lease_id):
            put = rpc.PutRequest(key=key.encode(), value=value, lease=lease_id or 0)
            return rpc.RequestOp(request_put=put)
        case Delete(key):
            delete = rpc.DeleteRangeRequest(key=key.encode())
            return rpc.RequestOp(request_delete_range=delete)
        case DeleteRange(first, end):
            delete = rpc.DeleteRangeRequest(key=first.encode(), range_end=end.encode())
            return rpc.RequestOp(request_delete_range=delete)
        case Get(key):
            return rpc.RequestOp(request_range=rpc.RangeRequest(key=key.encode()))
        case _:
            assert_never(operation)


def txn_result(message: Any) -> TxnResult:
    """Convert an etcdserverpb.TxnResponse."""
    found = [
        key_value(response.response_range.kvs[0]) if response.response_range.kvs else None
        for response in message.responses
        if response.WhichOneof("response") == "response_range"
    ]
    return TxnResult(message.succeeded, message.header.revision, tuple(found))
