"""A submitted generation: its request, the owner of its stream, and the output for its client."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Self

from sllmreal.engine.protocol import SequenceSpec
from sllmreal.gateway.backend import Generated, GenerationRequest
from sllmreal.streams.owner import StreamOwner


class PendingGeneration:
    """A generation: for the client an async iterator of the output, for the router its state.

    Attributes:
        instances: All instances that this generation has run on or migrated to.
        ended: Nothing more is queued for the client.
        progress_at_s: Time of the arrival, the last start or the last token.
        restarted: The generation was restarted since its last token, because of silence.
    """

    def __init__(
        self,
        request: GenerationRequest,
        on_cancel: Callable[["PendingGeneration"], None],
        now_s: float = 0.0,
    ) -> None:
        self.request = request
        self.owner = _owner_of(request, ())
        self.instances: set[str] = set()
        self.ended = False
        self.progress_at_s = now_s
        self.restarted = False
        self._on_cancel = on_cancel
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = float("inf")
        self._outputs: asyncio.Queue[Generated | Exception] = asyncio.Queue()

    # For the client (`OutputStream`).

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Generated:
        if self.ended and self._outputs.empty():
            raise StopAsyncIteration
        output = await self._outputs.get()
        if isinstance(output, Exception):
            raise output
        return output

    async def aclose(self) -> None:
        """Cancel the generation if it has not ended. May be called twice."""
        if not self.ended:
            self.ended = True
            self._on_cancel(self)

    # For the router.

    def renew(self) -> None:
        """Become another request, with an id of its own, that continues this one's output."""
        request_id = f"{self.request.request_id}+"
        self.request = replace(self.request, request_id=request_id)
        self.owner = _owner_of(self.request, self.owner.output)

    def deliver(self, generated: Generated) -> None:
        """Queue further tokens for the client."""
        if not self.ended:
            self._outputs.put_nowait(generated)
            self.ended = generated.finish is not None

    def fail(self, error: Exception) -> None:
        """End the generation: the client receives the error in place of further tokens."""
        if not self.ended:
            self.ended = True
            self._outputs.put_nowait(error)

    def set_timer(
        self, at_s: float, now_s: float, wake_up: Callable[["PendingGeneration"], None]
    ) -> None:
        """Call `wake_up` at `at_s`, unless it will be called earlier."""
        if self._timer_at_s <= at_s:
            return
        self.cancel_timer()

        def expire() -> None:
            self._timer, self._timer_at_s = None, float("inf")
            wake_up(self)

        self._timer_at_s = at_s
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, at_s - now_s), expire)

    def cancel_timer(self) -> None:
        """Cancel the timer, if it is set."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at_s = None, float("inf")


def _owner_of(request: GenerationRequest, output: tuple[int, ...]) -> StreamOwner:
    spec = SequenceSpec(
        request_id=request.request_id,
        prompt=request.prompt,
        max_output_tokens=request.max_output_tokens,
        sampling=request.sampling,
        stop_tokens=request.stop_tokens,
        output=output,
    )
    return StreamOwner(spec)
