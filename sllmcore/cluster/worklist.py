"""The worklist: changes to which the controller has yet to react."""

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.request_state import RequestState


class Worklist:
    """Changes made by the current event that may let a waiting request start.

    The cluster state and the parts of the controller add entries. `Controller._settle` alone takes
    entries out, after each event, until none is left. Entries of one kind keep the order in which
    they were added.
    """

    __slots__ = ("instances", "models", "requests", "servers")

    def __init__(self) -> None:
        self.instances: dict[str, Instance] = {}  # by id: requests of these instances changed
        self.requests: list[RequestState] = []  # these lost their instance
        self.servers: dict[str, None] = {}  # by id: these gained available GPUs
        self.models: dict[str, None] = {}  # by name: one more server holds these models

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
