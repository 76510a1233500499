"""Runners of engines: a thread of the worker's process, or a process of its own."""

from collections.abc import Callable
from typing import Protocol

from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.weights import Weights
from sllmreal.streams import messages as wire

Send = Callable[[wire.ToOwner], None]


class Runner(Protocol):
    """Runs the engine of one instance. Called from the worker's event loop.

    Messages of the engine host go to the `Send` that the runner was made with, in the event loop.
    """

    async def boot(self) -> None:
        """Do everything that does not need the weights. Raises EngineLostError, UsageError."""
        ...

    async def start(self, weights: Weights | None) -> None:
        """Make the engine; return when its host is online. Call it after `boot`.

        Raises:
            SllmError: The engine cannot be made.
        """
        ...

    def post(self, message: wire.ToHost) -> None:
        """Send a message to the engine host. The message is dropped if the host is gone."""
        ...

    async def lost(self) -> str:
        """Wait until the engine ends without `stop`; return the reason."""
        ...

    async def stop(self) -> None:
        """End the engine in any state. When this returns, nothing reads its weights."""
        ...


MakeRunner = Callable[[str, ModelDeployment, Send], Runner]
"""Makes the runner of an instance, by its id."""
