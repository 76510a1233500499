"""A client of a running cluster, which submits requests to the gateway's request router."""

import asyncio
from dataclasses import dataclass, field

from experiments.real.sending import Elapsed, Sending
from experiments.real.system import prompt_of
from sllmcore.errors import ClusterError
from sllmreal.control.leader_link import LeaderLink
from sllmreal.gateway.backend import FailedError, GenerationRequest, RejectedError, TimedOutError
from sllmreal.router.pending_generation import PendingGeneration
from sllmreal.router.router import RequestRouter

_SETTLE_S = 30.0  # limit until engines acknowledge the ends of their last streams


@dataclass(slots=True)
class BenchClient:
    """A client of a running cluster.

    Attributes:
        router: The gateway's request router.
        link: The gateway's link to the leader.
        journal: The controller's journal, header first; empty until the cluster has stopped.
    """

    router: RequestRouter
    link: LeaderLink
    journal: list[str] = field(default_factory=list)

    async def ask(self, sending: Sending, elapsed_s: Elapsed) -> None:
        """Submit a request and read its answer; cancel it when the client's patience ends.

        Raises:
            ClusterError: The answer's number of tokens is not that of the workload.
        """
        job = sending.job
        request = job.request
        call = self.router.submit(
            GenerationRequest(
                request_id=request.id,
                model=request.model,
                tenant="",
                prompt=prompt_of(job),
                max_output_tokens=job.output_tokens,
            )
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
        """Wait until the engines have ended all streams and the leader has logged all reports.

        Raises:
            ClusterError: They have not after 30 s.
        """
        try:
            async with asyncio.timeout(_SETTLE_S):
                while self.router.generations or self.link.num_unlogged:  # noqa: ASYNC110 - both change often
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            held = ", ".join(list(self.router.generations)[:5])
            raise ClusterError(f"engines have not ended the streams of {held}") from error
