"""Whose transfer comes next on an I/O path: the order is the controller's (`Load.after`)."""

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class _Place:
    """A load in a queue. `come` is done when its turn has come."""

    come: asyncio.Future[None]
    ahead: "_Place | None"
    followers: "list[_Place]" = field(default_factory=list)


class LoadTurns:
    """Queues of loads, each behind the one it was told to follow."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}  # by instance, until its bytes have moved

    def queue(self, instance_id: str, after: str | None) -> None:
        """Take a place behind `after`; at the front if that has moved its bytes or is gone."""
        ahead = self._places.get(after) if after is not None else None
        place = _Place(asyncio.get_running_loop().create_future(), ahead)
        self._places[instance_id] = place
        if ahead is None:
            place.come.set_result(None)
        else:
            ahead.followers.append(place)

    async def come(self, instance_id: str) -> None:
        """Return when it is this load's turn."""
        await asyncio.shield(self._places[instance_id].come)

    def leave(self, instance_id: str) -> None:
        """Its bytes have moved, or never will: who is behind it moves up. May be called twice."""
        place = self._places.pop(instance_id, None)
        if place is None:
            return
        if place.ahead is not None:
            place.ahead.followers.remove(place)
            place.ahead.followers += place.followers
        for follower in place.followers:
            follower.ahead = place.ahead
            if place.ahead is None:
                follower.come.set_result(None)
        place.come.cancel()
