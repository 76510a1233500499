"""A command of the core as the order that a peer gets: with addresses, and the model it loads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from sllmcore.commands import (
    AbortResume,
    Command,
    Evict,
    Infer,
    Load,
    Reject,
    Resume,
    Stop,
    TimeOut,
    Unload,
)
from sllmreal.control.messages import (
    AbortMove,
    EvictCopy,
    GatewayOrder,
    MoveRequest,
    Order,
    RefuseRequest,
    RunRequest,
    StartInstance,
    StopInstance,
    StopRequest,
    WorkerOrder,
)
from sllmreal.control.model import ModelSpec


@dataclass(frozen=True, slots=True)
class Due:
    """A command on its way to a peer, with what has to be known at the time it was given."""

    command: Command
    server_id: str = ""  # of the instance it is about
    other_server_id: str = ""  # of a migration's destination
    loaded: bool = False  # for Unload: the LoadFinished had been heard
    model: ModelSpec | None = None  # for Load


Address = Callable[[str], str]  # of a server's data plane; empty while that is not known


def order(due: Due, address: Address) -> Order:
    """The order that a command is to its peer."""
    command = due.command
    if isinstance(command, Load | Unload | Evict):
        return _worker_order(command, due)
    return _gateway_order(command, due, address)


def _worker_order(command: Load | Unload | Evict, due: Due) -> WorkerOrder:
    match command:
        case Load(number, instance_id, _, _, gpus, _, cache_in, after):
            assert due.model is not None, "nothing is loaded that was not deployed"
            return StartInstance(number, instance_id, due.model, gpus, cache_in, after)
        case Unload(number, instance_id):
            return StopInstance(number, instance_id, due.loaded)
        case Evict(number, _, tier, model, keep_bytes):
            return EvictCopy(number, tier, model, keep_bytes)
        case _:
            assert_never(command)


def _gateway_order(
    command: Infer | Stop | Resume | AbortResume | Reject | TimeOut, due: Due, address: Address
) -> GatewayOrder:
    match command:
        case Infer(number, request_id, instance_id, attempt):
            place = address(due.server_id)
            answer: GatewayOrder = RunRequest(number, request_id, instance_id, place, attempt)
        case Stop(number, request_id, instance_id):
            answer = StopRequest(number, request_id, instance_id)
        case Resume(number, move_id, request_id, source_id, destination_id):
            source, destination = address(due.server_id), address(due.other_server_id)
            answer = MoveRequest(
                number, move_id, request_id, source_id, source, destination_id, destination
            )
        case AbortResume(number, move_id, request_id, destination_id):
            answer = AbortMove(number, move_id, request_id, destination_id)
        case Reject(number, request_id, reason):
            answer = RefuseRequest(number, request_id, reason)
        case TimeOut(number, request_id):
            answer = RefuseRequest(number, request_id, "not started in time", timed_out=True)
        case _:
            assert_never(command)
    return answer
