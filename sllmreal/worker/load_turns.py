"""Loads that await their turn on an I/O path; the order is that of `sllmcore.load_turns`."""

import asyncio

from sllmcore.load_turns import LoadTurns


class AwaitedLoadTurns:
    """An asyncio adaptor of `LoadTurns`: loads wait for their turns. Used from one event loop."""

    def __init__(self) -> None:
        self._turns = LoadTurns()
        self._waits: dict[str, asyncio.Future[None]] = {}  # done when the load's turn has come

    def join(self, instance_id: str, after: str | None) -> None:
        """Queue a load behind `after`.

        Raises:
            ControlError: The load is queued already.
        """
        has_come = self._turns.join(instance_id, after)
        wait = self._waits[instance_id] = asyncio.get_running_loop().create_future()
        if has_come:
            wait.set_result(None)

    async def wait(self, instance_id: str) -> None:
        """Return when it is this load's turn."""
        await asyncio.shield(self._waits[instance_id])

    def leave(self, instance_id: str) -> None:
        """Take a load out of its queue, and cancel its wait. May be called twice."""
        wait = self._waits.pop(instance_id, None)
        if wait is not None:
            wait.cancel()
        for follower in self._turns.leave(instance_id):
            self._waits[follower].set_result(None)
