"""Orders: the message that each command of the controller becomes, and the peer that gets it.

A command and its message share a name: `commands.StartRequest` becomes `messages.StartRequest`.
A new command takes a message in `control.messages`, a case here, and a case in the peer's dispatch
(`worker.worker` or `router.router`).
"""

from collections.abc import Container
from dataclasses import dataclass
from typing import assert_never

from sllmcore import commands
from sllmreal.control import messages
from sllmreal.leader.routing import RoutingTable

_TIMED_OUT = "not started in time"


@dataclass(frozen=True, slots=True)
class ToWorker:
    """An order for the worker of a server."""

    server_id: str
    order: messages.WorkerOrder


@dataclass(frozen=True, slots=True)
class ToGateway:
    """An order for the gateway of a request."""

    request_id: str
    order: messages.GatewayOrder


def addressed_order(
    command: commands.Command, table: RoutingTable, load_failed: Container[str] = ()
) -> ToWorker | ToGateway:
    """Translate a command.

    Args:
        command: The command.
        table: The routing table as it was before `note_command` of the same command.
        load_failed: The requests that waited for a load, if the command's event is its failure.
    """
    addressed: ToWorker | ToGateway
    match command:
        case commands.LaunchInstance(
            id=number,
            instance_id=instance_id,
            model=model,
            server_id=server_id,
            gpu_indices=gpus,
            cache_in=tiers,
            after=after,
        ):
            launch = messages.LaunchInstance(
                id=number,
                instance_id=instance_id,
                model=table.models[model],
                gpu_indices=gpus,
                cache_in=tiers,
                after=after,
            )
            addressed = ToWorker(server_id, launch)
        case commands.StopInstance(number, instance_id):
            stop = messages.StopInstance(number, instance_id, table.is_loaded(instance_id))
            addressed = ToWorker(table.server_of(instance_id), stop)
        case commands.EvictCopy(
            id=number, server_id=server_id, tier=tier, model=model, keep_bytes=keep_bytes
        ):
            addressed = ToWorker(server_id, messages.EvictCopy(number, tier, model, keep_bytes))
        case commands.StartRequest(number, request_id, instance_id, attempt):
            start = messages.StartRequest(
                id=number,
                request_id=request_id,
                instance_id=instance_id,
                address=table.address_of(instance_id),
                attempt=attempt,
            )
            addressed = ToGateway(request_id, start)
        case commands.StopRequest(number, request_id, instance_id):
            addressed = ToGateway(request_id, messages.StopRequest(number, request_id, instance_id))
        case commands.StartMigration(
            id=number,
            move_id=move_id,
            request_id=request_id,
            source_id=source_id,
            destination_id=destination_id,
        ):
            source, destination = table.address_of(source_id), table.address_of(destination_id)
            migration = messages.StartMigration(
                id=number,
                move_id=move_id,
                request_id=request_id,
                source_id=source_id,
                source_address=source,
                destination_id=destination_id,
                destination_address=destination,
            )
            addressed = ToGateway(request_id, migration)
        case commands.AbortMigration(number, move_id, request_id, destination_id):
            abort = messages.AbortMigration(number, move_id, request_id, destination_id)
            addressed = ToGateway(request_id, abort)
        case commands.RejectRequest(number, request_id, reason):
            reject = messages.RejectRequest(
                number, request_id, reason, load_failed=request_id in load_failed
            )
            addressed = ToGateway(request_id, reject)
        case commands.TimeOutRequest(number, request_id):
            addressed = ToGateway(
                request_id,
                messages.RejectRequest(number, request_id, _TIMED_OUT, timed_out=True),
            )
        case _:
            assert_never(command)
    return addressed
