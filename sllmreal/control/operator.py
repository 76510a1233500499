"""An operator's requests to the leader."""

import asyncio
from collections.abc import Awaitable, Callable

from sllmcore.errors import ClusterError, UsageError
from sllmreal.control.home import Home
from sllmreal.control.leader_link import LeaderChannel
from sllmreal.control.messages import ClusterStatus, OperatorRefused, OperatorRequest
from sllmreal.control.site import leader_dial
from sllmreal.transport.errors import ChannelClosedError

WAIT_S = 15.0  # longer than the next leader takes to take over


async def ask(home: Home, request: OperatorRequest, wait_s: float = WAIT_S) -> ClusterStatus | None:
    """Send a request to the leader and wait for the answer; return the status of a `GetStatus`.

    Raises:
        UsageError: The leader refused the request; the message is its reason.
        ClusterError: There was no leader for `wait_s`.
    """
    dial_leader = leader_dial(home)
    try:
        async with asyncio.timeout(wait_s):
            while True:
                try:
                    return await _answered(dial_leader, request)
                except ChannelClosedError:
                    await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise ClusterError(
            f"the cluster at {home.directory} has no leader: start it with `sllm serve`"
        ) from error


async def _answered(
    dial_leader: Callable[[], Awaitable[LeaderChannel]], request: OperatorRequest
) -> ClusterStatus | None:
    channel = await dial_leader()
    try:
        channel.post(request)
        message = await channel.receive()
    finally:
        channel.close()
    if isinstance(message, OperatorRefused):
        raise UsageError(message.reason)
    return message if isinstance(message, ClusterStatus) else None
