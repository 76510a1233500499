"""An operator's side of the leader: ask, and get the answer or the reason why not."""

import asyncio
from collections.abc import Awaitable, Callable

from sllmcore.errors import ClusterError, UsageError
from sllmreal.control.home import Home
from sllmreal.control.leader_link import LeaderChannel
from sllmreal.control.messages import ClusterStatus, OperatorRefused, OperatorRequest
from sllmreal.control.site import leader_dial
from sllmreal.transport.errors import ChannelClosedError

WAIT_S = 15.0  # a leader may be on its way


async def ask(home: Home, asked: OperatorRequest, wait_s: float = WAIT_S) -> ClusterStatus | None:
    """Have the leader do it; the Status where that was asked.

    Raises UsageError with the leader's reason, ClusterError when nobody leads for `wait_s`.
    """
    dial_leader = leader_dial(home)
    try:
        async with asyncio.timeout(wait_s):
            while True:
                try:
                    return await _answered(dial_leader, asked)
                except ChannelClosedError:
                    await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise ClusterError(f"nobody leads the cluster at {home.directory}") from error


async def _answered(
    dial_leader: Callable[[], Awaitable[LeaderChannel]], asked: OperatorRequest
) -> ClusterStatus | None:
    channel = await dial_leader()
    try:
        channel.post(asked)
        message = await channel.receive()
    finally:
        channel.close()
    if isinstance(message, OperatorRefused):
        raise UsageError(message.reason)
    return message if isinstance(message, ClusterStatus) else None
