"""Translate the core's commands into messages to peers, which carry addresses and models too.

A command and its message share a name: `commands.StartRequest` becomes `messages.StartRequest`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from sllmcore import commands
from sllmreal.control import messages
from sllmreal.control.deployment import ModelDeployment


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A command on its way to a peer, with what has to be known at the time it was given."""

    command: commands.Command
    server_id: str = ""  # of the instance it is about
    other_server_id: str = ""  # of a migration's destination
    loaded: bool = False  # for StopInstance: the controller has processed the LoadFinished
    model: ModelDeployment | None = None  # for LaunchInstance


Address = Callable[[str], str]  # of a server's data plane; empty while that is not known


def order(due: OutboxEntry, address: Address) -> messages.Order:
    """The order that a command is to its peer."""
    command = due.command
    if isinstance(command, commands.LaunchInstance | commands.StopInstance | commands.EvictCopy):
        return _worker_order(command, due)
    return _gateway_order(command, due, address)


def _worker_order(
    command: commands.LaunchInstance | commands.StopInstance | commands.EvictCopy, due: OutboxEntry
) -> messages.WorkerOrder:
    match command:
        case commands.LaunchInstance(number, instance_id, _, _, gpus, _, cache_in, after):
            assert due.model is not None, "nothing is loaded that was not deployed"
            return messages.LaunchInstance(number, instance_id, due.model, gpus, cache_in, after)
        case commands.StopInstance(number, instance_id):
            return messages.StopInstance(number, instance_id, due.loaded)
        case commands.EvictCopy(number, _, tier, model, keep_bytes):
            return messages.EvictCopy(number, tier, model, keep_bytes)
        case _:
            assert_never(command)


def _gateway_order(
    command: commands.StartRequest
    | commands.StopRequest
    | commands.StartMigration
    | commands.AbortMigration
    | commands.RejectRequest
    | commands.TimeOutRequest,
    due: OutboxEntry,
    address: Address,
) -> messages.GatewayOrder:
    match command:
        case commands.StartRequest(number, request_id, instance_id, attempt):
            place = address(due.server_id)
            answer: messages.GatewayOrder = messages.StartRequest(
                number, request_id, instance_id, place, attempt
            )
        case commands.StopRequest(number, request_id, instance_id):
            answer = messages.StopRequest(number, request_id, instance_id)
        case commands.StartMigration(number, move_id, request_id, source_id, destination_id):
            source, destination = address(due.server_id), address(due.other_server_id)
            answer = messages.StartMigration(
                number, move_id, request_id, source_id, source, destination_id, destination
            )
        case commands.AbortMigration(number, move_id, request_id, destination_id):
            answer = messages.AbortMigration(number, move_id, request_id, destination_id)
        case commands.RejectRequest(number, request_id, reason):
            answer = messages.RejectRequest(number, request_id, reason)
        case commands.TimeOutRequest(number, request_id):
            answer = messages.RejectRequest(
                number, request_id, "not started in time", timed_out=True
            )
        case _:
            assert_never(command)
    return answer
