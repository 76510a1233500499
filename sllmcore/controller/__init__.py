"""The control plane as a state machine: events in, commands out."""

from sllmcore.controller.controller import Controller, ControllerSettings

__all__ = ["Controller", "ControllerSettings"]
