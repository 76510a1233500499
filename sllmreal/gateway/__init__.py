"""The OpenAI-compatible HTTP API of a cluster: keys, limits, streams, metrics, health."""

from sllmreal.gateway.app import create_app
from sllmreal.gateway.server import serve
from sllmreal.gateway.settings import GatewaySettings, Limits, Timeouts

__all__ = ["GatewaySettings", "Limits", "Timeouts", "create_app", "serve"]
