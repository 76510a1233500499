"""Changes to which the controller has yet to react."""

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.request_state import RequestState


class Worklist:
    """What the current event changed and what may therefore let a waiting request start.

    The parts of the controller add entries to these containers. `Controller._settle` alone takes
    entries out, after each event, until no entry is left. Each kind keeps the order in which its
    entries were added, without duplicates.
    """

    __slots__ = ("instances", "models", "requests", "servers")

    def __init__(self) -> None:
        self.instances: dict[str, Instance] = {}  # instances whose requests changed, by id
        self.requests: list[RequestState] = []  # requests that lost their instance
        self.servers: dict[str, None] = {}  # servers that gained available GPUs, by id
        self.models: dict[str, None] = {}  # models that one more server holds

    def take_requests(self) -> list[RequestState]:
        """Remove and return all requests."""
        requests, self.requests = self.requests, []
        return requests

    def take_servers(self) -> dict[str, None]:
        """Remove and return all server ids."""
        servers, self.servers = self.servers, {}
        return servers

    def take_models(self) -> dict[str, None]:
        """Remove and return all models."""
        models, self.models = self.models, {}
        return models
