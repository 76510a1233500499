"""A client's side of a running cluster: one request at the gateway's desk, read to its end."""

import asyncio
from dataclasses import dataclass, field

from experiments.real.sending import Elapsed, Sending
from experiments.real.system import prompt_of
from sllmcore.errors import ClusterError
from sllmreal.control.leader_link import LeaderLink
from sllmreal.gateway.backend import FailedError, GenerationRequest, RejectedError, TimedOutError
from sllmreal.router.pending_generation import PendingGeneration
from sllmreal.router.router import RequestRouter

_SETTLE_S = 30.0  # for engines to acknowledge the ends of their last streams


@dataclass(slots=True)
class Front:
    """A running cluster as this process sees it.

    Attributes:
        journal: The controller's journal, header first; filled when the cluster has stopped.
    """

    router: RequestRouter
    link: LeaderLink
    journal: list[str] = field(default_factory=list)

    async def ask(self, sending: Sending, elapsed_s: Elapsed) -> None:
        """Send one request and read its answer, or leave when its client's patience ends.

        Raises:
            ClusterError: It ended with another number of tokens than were asked for.
        """
        job = sending.job
        request = job.request
        call = self.router.submit(
            GenerationRequest(request.id, request.model, "", prompt_of(job), job.output_tokens)
        )
        patience_s = None if job.cancel_at_s is None else max(0.0, job.cancel_at_s - elapsed_s())
        try:
            await self._read(call, sending, elapsed_s, patience_s)
        except (RejectedError, TimedOutError, FailedError) as error:
            sending.problem = f"{type(error).__name__}: {error}"
            return
        if not sending.problem and sending.output_tokens != job.output_tokens:
            raise ClusterError(
                f"{request.id} got {sending.output_tokens} tokens, not {job.output_tokens}"
            )

    @staticmethod
    async def _read(
        call: PendingGeneration, sending: Sending, elapsed_s: Elapsed, patience_s: float | None
    ) -> None:
        try:
            async with asyncio.timeout(patience_s):
                async for generated in call:
                    if not sending.output_tokens:
                        sending.first_token_at_s = elapsed_s()
                    sending.output_tokens += len(generated.tokens)
        except TimeoutError:
            await call.aclose()
            sending.problem = "left"

    async def settled(self) -> None:
        """Return when no engine holds anything of any request and the leader has heard of all.

        Raises:
            ClusterError: That takes too long.
        """
        try:
            async with asyncio.timeout(_SETTLE_S):
                while self.router.generations or self.link.num_unheard:  # noqa: ASYNC110 - both change often
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            held = ", ".join(list(self.router.generations)[:5])
            raise ClusterError(f"engines do not let go of requests: {held}") from error
