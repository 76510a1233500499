"""The migration of one request to another instance."""

from sllmcore.cluster.instance import Instance


class Migration:
    """A migration from its plan to its end. It holds a slot of the destination until it ends."""

    __slots__ = ("aborted", "destination", "expected_s", "id", "request_id", "source", "started")

    def __init__(
        self,
        move_id: str,
        request_id: str,
        source: Instance,
        destination: Instance,
        expected_s: float,
    ) -> None:
        self.id = move_id
        self.request_id = request_id
        self.source = source
        self.destination = destination
        self.expected_s = expected_s  # predicted duration
        self.started = False  # `StartMigration` was issued
        self.aborted = False  # `AbortMigration` was issued
