"""A leader's state as bytes, to stand in the log for all that led to it, and back.

The state is pickled: a controller is a graph of objects that refer to each other, of which every
policy keeps others, and a list of what to export would be wrong the day that one is forgotten.
The store is trusted as the cluster's key is: who can write there can order anything of any worker.
All the same only what a leader's state is made of is taken out of a pickle. What another version
of the code has written is not read at all, but for the models that were deployed.
"""

import collections
import gc
import io
import pickle
import random
from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any

import msgspec

from sllmcore.build import policy_packages
from sllmcore.cluster.request_state import RequestState
from sllmcore.errors import ClusterError
from sllmcore.types import Request
from sllmreal.control import deployment
from sllmreal.control.deployment import ModelDeployment
from sllmreal.leader import cold_start_counts, orders, peers, routing, state
from sllmreal.leader.state import SavedState

_MODULES = (cold_start_counts, deployment, orders, peers, routing, state)
_CORE = "sllmcore."  # which does nothing to the world, whatever is called
_OURS = {module.__name__ for module in _MODULES}
_STANDARD = {
    (kind.__module__, kind.__name__): kind
    for kind in (collections.deque, collections.Counter, random.Random, set, frozenset)
}


class LogSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """What a new leader begins with.

    Attributes:
        line: The journal's header, which says how the controller was made.
        zero_at_s: When by the wall clock its time was 0.
        now_s: Of the last event.
        stamp: Of the code.
        models: Deployed.
        state: Pickled.
    """

    line: str
    zero_at_s: float
    now_s: float
    stamp: str
    models: tuple[ModelDeployment, ...]
    state: bytes


def encoded_snapshot(snapshot: LogSnapshot) -> bytes:
    return msgspec.msgpack.encode(snapshot)


def decoded_snapshot(value: bytes) -> LogSnapshot:
    """The inverse. Raises ClusterError for what is no snapshot."""
    try:
        return msgspec.msgpack.decode(value, type=LogSnapshot)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ClusterError(f"the log begins with something that is no snapshot: {error}") from error


# Of open requests there are many, and pickle's own way with slots is slow.
_STATE_SLOTS = tuple(sorted(RequestState.__slots__))
_of_request_state: Callable[[RequestState], tuple[object, ...]] = attrgetter(*_STATE_SLOTS)
_of_request: Callable[[Request], tuple[object, ...]] = attrgetter(
    *(field.name for field in fields(Request))
)


def _request_state(*values: object) -> RequestState:
    request_state = RequestState.__new__(RequestState)
    for name, value in zip(_STATE_SLOTS, values, strict=True):
        setattr(request_state, name, value)
    return request_state


_REDUCED: dict[type, Callable[[Any], tuple[Callable[..., Any], tuple[Any, ...]]]] = {
    RequestState: lambda request_state: (_request_state, _of_request_state(request_state)),
    Request: lambda request: (Request, _of_request(request)),
}


def pickled(saved: SavedState) -> bytes:
    """As bytes. It takes some milliseconds, in which nothing must happen to the state."""
    written = io.BytesIO()
    pickler = pickle.Pickler(written, protocol=5)
    pickler.dispatch_table = _REDUCED
    collects = gc.isenabled()
    gc.disable()  # all that a pickler makes lives until it ends: to look through it is in vain
    try:
        pickler.dump(saved)
    finally:
        if collects:
            gc.enable()
    return written.getvalue()


def unpickled(value: bytes) -> SavedState:
    """The inverse, with the same code. Raises ClusterError for what is not a leader's state."""
    try:
        saved = _Unpickler(io.BytesIO(value)).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError) as error:
        raise ClusterError(f"a snapshot cannot be read: {error}") from error
    if not isinstance(saved, SavedState):
        raise ClusterError(f"a snapshot holds a {type(saved).__name__}")
    return saved


class _Unpickler(pickle.Unpickler):
    """Admits what the core defines, the classes of the modules above, of the packages that a policy
    from outside was loaded from, and a few standard ones."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        standard = _STANDARD.get((module_name, global_name))
        if standard is not None:
            return standard
        if (module_name, global_name) == (__name__, _request_state.__name__):
            return _request_state
        core = module_name.startswith(_CORE)
        ours = module_name in _OURS or module_name.partition(".")[0] in policy_packages()
        if "." not in global_name and (core or ours):
            found = super().find_class(module_name, global_name)
            defined_there = getattr(found, "__module__", None) == module_name
            if defined_there and (core or isinstance(found, type)):
                return found
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is not part of a leader's state")
