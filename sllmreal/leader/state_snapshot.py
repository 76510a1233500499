"""Snapshots: a leader's state as bytes, which replace the log's entries up to it.

The state is pickled. A controller is a graph of objects, each policy has its own, and a list of
fields to save would be wrong as soon as a field is forgotten. The store is trusted as the cluster's
key is: a writer to the store can give any order to any worker. Even so, the unpickler accepts only
the classes of a leader's state. Of a snapshot that other code wrote, only the models are read.
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
from sllmreal.control import deployment, messages
from sllmreal.control.deployment import ModelDeployment
from sllmreal.leader import counts, peers, problems, routing, state
from sllmreal.leader.state import SavedState

_MODULES = (counts, deployment, messages, peers, problems, routing, state)
_CORE = "sllmcore."  # calling anything there has no effect outside: it does no I/O
_OURS = {module.__name__ for module in _MODULES}
_STANDARD = {
    (kind.__module__, kind.__name__): kind
    for kind in (collections.deque, collections.Counter, random.Random, set, frozenset)
}


class LogSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """The state from which a new leader continues.

    Attributes:
        line: The journal's header, with the settings of the controller.
        zero_at_s: Unix time at the cluster's time 0.
        now_s: The cluster's time of the last event.
        stamp: The version of the code, see `code_version`.
        models: The models that are deployed.
        state: A pickled `SavedState`.
    """

    line: str
    zero_at_s: float
    now_s: float
    stamp: str
    models: tuple[ModelDeployment, ...]
    state: bytes


def encoded_snapshot(snapshot: LogSnapshot) -> bytes:
    """Return a snapshot as bytes."""
    return msgspec.msgpack.encode(snapshot)


def decoded_snapshot(value: bytes) -> LogSnapshot:
    """Return the snapshot of `encoded_snapshot`. Raises ClusterError if it is malformed."""
    try:
        return msgspec.msgpack.decode(value, type=LogSnapshot)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ClusterError(f"the log's snapshot is malformed: {error}") from error


# There are many open requests, and pickle is slow with slots.
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
    """Return a state as bytes. Takes milliseconds, in which the state must not change."""
    written = io.BytesIO()
    pickler = pickle.Pickler(written, protocol=5)
    pickler.dispatch_table = _REDUCED
    collects = gc.isenabled()
    gc.disable()  # what a pickler makes lives until it ends, so a collection would find nothing
    try:
        pickler.dump(saved)
    finally:
        if collects:
            gc.enable()
    return written.getvalue()


def unpickled(value: bytes) -> SavedState:
    """Return the state of `pickled`. Raises ClusterError for anything but a leader's state."""
    try:
        saved = _Unpickler(io.BytesIO(value)).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError) as error:
        raise ClusterError(f"the snapshot cannot be unpickled: {error}") from error
    if not isinstance(saved, SavedState):
        raise ClusterError(f"the snapshot contains a {type(saved).__name__}, not a SavedState")
    return saved


class _Unpickler(pickle.Unpickler):
    """An unpickler that accepts the core, the classes of `_MODULES`, a few standard ones, and the
    packages of a policy from outside."""

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
