"""The control plane as a state machine that turns events into commands."""

from sllmcore.controller.controller import Controller, ControllerSettings

__all__ = ["Controller", "ControllerSettings"]
