"""One inference on its way to another instance."""

from sllmcore.cluster.instance import Instance


class Migration:
    """A migration from its plan to its end. Holds a slot at the destination all that time."""

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
        self.expected_s = expected_s  # to recompute the tokens
        self.started = False  # the driver has it in hand
        self.aborted = False  # and has been told to clear the destination
