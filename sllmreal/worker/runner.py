"""What runs an instance's engine: in this process or in one of its own."""

from collections.abc import Callable
from typing import Protocol

from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.weights import Weights
from sllmreal.streams import messages as wire

Send = Callable[[wire.ToOwner], None]


class Runner(Protocol):
    """One engine of one instance. Called from the worker's event loop.

    Whatever its host says goes to the `Send` that the runner was made with, in the event loop.
    """

    async def boot(self) -> None:
        """Do everything that does not need the weights. Raises EngineLostError, UsageError."""
        ...

    async def start(self, weights: Weights | None) -> None:
        """Make the engine, and return when its host is online. After `boot`.

        Raises:
            SllmError: No engine comes of it.
        """
        ...

    def post(self, message: wire.ToHost) -> None:
        """Hand a message to the host. Swallowed when it is gone."""
        ...

    async def lost(self) -> str:
        """Wait until the engine ends without having been stopped; why it did."""
        ...

    async def stop(self) -> None:
        """End the engine, however far it is; when this returns nothing reads its weights."""
        ...


Launch = Callable[[str, ModelDeployment, Send], Runner]
"""Makes the runner of an instance."""
