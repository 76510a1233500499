"""What a failed call to etcd means: whether it may have taken effect, whether to try again."""

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
# What gRPC says when it found no connection to send by, and etcd before it proposes anything. With
# other words for the same, a call only counts as one whose outcome is unknown.
_NOT_SENT = ("failed to connect to all addresses", "etcdserver: no leader")


class Failure(Enum):
    """Of one attempt."""

    REFUSED = "etcd has said no, and would again"
    NOT_DONE = "no node took it: another try may succeed"
    UNKNOWN = "a node took it and did not answer"


def failure_of(error: rpc.AioRpcError) -> Failure:
    """What this error means."""
    if error.code() in _REFUSED:
        return Failure.REFUSED
    if error.code() is rpc.StatusCode.RESOURCE_EXHAUSTED:  # too many requests, or no space
        return Failure.NOT_DONE
    if any(words in (error.details() or "") for words in _NOT_SENT):
        return Failure.NOT_DONE
    return Failure.UNKNOWN


def refusal(error: rpc.AioRpcError) -> SllmError:
    """What to tell the caller when etcd refuses; it has changed nothing."""
    story = f"etcd refuses: {error.details()}"
    match error.code():
        case rpc.StatusCode.NOT_FOUND:
            return LeaseLostError(story)
        case rpc.StatusCode.INVALID_ARGUMENT:
            return UsageError(story)
        case _:
            return StoreUnavailableError(story)
