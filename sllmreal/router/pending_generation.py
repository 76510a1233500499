"""One client's request: what was submitted, what has come out of it, and who owns its stream."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Self

from sllmreal.engine.protocol import SequenceSpec
from sllmreal.gateway.backend import Generated, GenerationRequest
from sllmreal.streams.owner import StreamOwner


class PendingGeneration:
    """A submission under way, as its client's end (an async iterator) and the desk see it."""

    def __init__(
        self, submission: GenerationRequest, leave: Callable[["PendingGeneration"], None]
    ) -> None:
        self.submission = submission
        self.owner = _owner(submission, ())
        self.instances: set[str] = set()  # those that have, or had, anything to do with it
        self.timer: asyncio.TimerHandle | None = None
        self.timer_at_s = float("inf")
        self.over = False  # the client has all it will get
        self._leave = leave
        self._outputs: asyncio.Queue[Generated | Exception] = asyncio.Queue()

    # The client's end.

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Generated:
        if self.over and self._outputs.empty():
            raise StopAsyncIteration
        output = await self._outputs.get()
        if isinstance(output, Exception):
            raise output
        return output

    async def aclose(self) -> None:
        """Cancel if it has not ended. May be called twice."""
        if not self.over:
            self.over = True
            self._leave(self)

    # The desk's end.

    def begin_anew(self) -> None:
        """Be another request that continues this one."""
        request_id = f"{self.submission.request_id}+"
        self.submission = replace(self.submission, request_id=request_id)
        self.owner = _owner(self.submission, self.owner.output)

    def give(self, generated: Generated) -> None:
        """Further tokens for the client."""
        if not self.over:
            self._outputs.put_nowait(generated)
            self.over = generated.finish is not None

    def fail(self, error: Exception) -> None:
        """The client gets this instead of the rest."""
        if not self.over:
            self.over = True
            self._outputs.put_nowait(error)


def _owner(submission: GenerationRequest, output: tuple[int, ...]) -> StreamOwner:
    spec = SequenceSpec(
        submission.request_id,
        submission.prompt,
        submission.max_output_tokens,
        submission.sampling,
        submission.stop_tokens,
        output,
    )
    return StreamOwner(spec)
