"""The meaning of a failed call to etcd: its possible effect, and the use of a retry."""

from enum import Enum

from aetcd import rpc  # type: ignore[import-untyped]

from sllmcore.errors import SllmError, UsageError
from sllmreal.store.errors import LeaseLostError, StoreUnavailableError

_REFUSED = frozenset(
    {
        rpc.StatusCode.NOT_FOUND,
        rpc.StatusCode.INVALID_ARGUMENT,
        rpc.StatusCode.OUT_OF_RANGE,
        rpc.StatusCode.FAILED_PRECONDITION,
        rpc.StatusCode.UNAUTHENTICATED,
        rpc.StatusCode.PERMISSION_DENIED,
        rpc.StatusCode.UNIMPLEMENTED,
    }
)
# Texts of gRPC if it has no connection, and of etcd before it proposes anything. If they ever
# change, the outcome of such a call counts as unknown.
_NOT_SENT = ("failed to connect to all addresses", "etcdserver: no leader")


class Failure(Enum):
    """The outcome of a failed attempt."""

    REFUSED = "etcd refuses the call, and would again"
    NOT_DONE = "no node took the call: a retry may succeed"
    UNKNOWN = "a node took the call and did not answer"


def failure_of(error: rpc.AioRpcError) -> Failure:
    """Return the meaning of an error."""
    if error.code() in _REFUSED:
        return Failure.REFUSED
    if error.code() is rpc.StatusCode.RESOURCE_EXHAUSTED:  # too many requests, or no space
        return Failure.NOT_DONE
    if any(words in (error.details() or "") for words in _NOT_SENT):
        return Failure.NOT_DONE
    return Failure.UNKNOWN


def refusal(error: rpc.AioRpcError) -> SllmError:
    """Return the error for the caller of a call that etcd refuses; nothing has changed."""
    text = f"etcd refuses: {error.details()}"
    match error.code():
        case rpc.StatusCode.NOT_FOUND:
            return LeaseLostError(text)
        case rpc.StatusCode.INVALID_ARGUMENT:
            return UsageError(text)
        case _:
            return StoreUnavailableError(text)
