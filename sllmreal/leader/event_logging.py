"""Log records of the events that the controller handles and of the commands that it gives."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from sllmcore import commands, events
from sllmcore.commands import Command
from sllmcore.events import Event
from sllmcore.protocols import InstanceView

_LOG = logging.getLogger(__name__)


def log_event(event: Event, instances: Mapping[str, InstanceView]) -> None:
    """Log an event that the controller is about to handle; `instances` are those before it."""
    match event:
        case events.RequestArrived(request):
            _LOG.debug("request arrived", extra={"request": request.id, "model": request.model})
        case events.RequestCancelled(request_id):
            _LOG.debug("request cancelled", extra={"request": request_id})
        case events.InferenceFinished(request_id, instance_id, num_tokens):
            ids = {"request": request_id, "instance": instance_id}
            _LOG.debug("request finished: %d tokens", num_tokens, extra=ids)
        case events.InferenceFailed(request_id, instance_id, reason):
            ids = {"request": request_id, "instance": instance_id}
            _LOG.warning("request failed: %s", reason, extra=ids)
        case events.LoadFinished(instance_id):
            _log_ready(event, _place(instance_id, instances))
        case events.LoadFailed(instance_id, reason):
            _LOG.warning("load failed: %s", reason, extra=_place(instance_id, instances))
        case events.InstanceLost(instance_id, reason):
            _LOG.warning("instance lost: %s", reason, extra=_place(instance_id, instances))
        case events.MigrationFinished(move_id, request_id, _, destination_id):
            ids = {"move": move_id, "request": request_id, "instance": destination_id}
            pause_s, resume_s = event.pause_s, event.resume_s
            _LOG.info("migration finished: pause %.3f s of %.3f s", pause_s, resume_s, extra=ids)
        case events.MigrationFailed(move_id, request_id, destination_id, reason):
            ids = {"move": move_id, "request": request_id, "instance": destination_id}
            _LOG.warning("migration failed: %s", reason, extra=ids)
        case events.ServerDraining(server_id):
            _LOG.info("server draining", extra={"server": server_id})
        case _:
            pass


def log_commands(given: Iterable[Command]) -> None:
    """Log the commands that the controller has given."""
    for command in given:
        match command:
            case commands.LaunchInstance(_, instance_id, model, server_id):
                ids = {"instance": instance_id, "model": model, "server": server_id}
                _LOG.info("launching instance", extra=ids)
            case commands.StopInstance(_, instance_id):
                _LOG.info("stopping instance", extra={"instance": instance_id})
            case commands.StartMigration(
                move_id=move_id,
                request_id=request_id,
                source_id=source_id,
                destination_id=destination_id,
            ):
                ids = {"move": move_id, "request": request_id}
                _LOG.info("migrating from %s to %s", source_id, destination_id, extra=ids)
            case commands.AbortMigration(_, move_id, request_id):
                ids = {"move": move_id, "request": request_id}
                _LOG.info("aborting migration", extra=ids)
            case commands.RejectRequest(_, request_id, reason):
                _LOG.info("request rejected: %s", reason, extra={"request": request_id})
            case commands.TimeOutRequest(_, request_id):
                _LOG.info("request timed out before it started", extra={"request": request_id})
            case _:
                pass


def _log_ready(load: events.LoadFinished, ids: dict[str, Any]) -> None:
    _LOG.info(
        "instance ready: %d bytes from %s in %.3f s, startup %.3f s",
        load.num_bytes,
        load.source.name,
        load.transfer_s,
        load.startup_s,
        extra=ids,
    )


def _place(instance_id: str, instances: Mapping[str, InstanceView]) -> dict[str, Any]:
    instance = instances.get(instance_id)
    if instance is None:  # the controller has let it go, and will ignore the event
        return {"instance": instance_id}
    return {"instance": instance_id, "model": instance.model, "server": instance.server_id}
