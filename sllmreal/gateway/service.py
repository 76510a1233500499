"""What one gateway holds, and how it answers a generating request."""

import secrets
import time

from starlette.requests import Request
from starlette.responses import Response

from sllmcore.errors import ClusterError
from sllmreal.gateway.admission import Admission
from sllmreal.gateway.answers import ChatDialect, Delta, Dialect, Heading, TextDialect
from sllmreal.gateway.backend import Backend, Health
from sllmreal.gateway.bodies import ChatRequest, CompletionRequest
from sllmreal.gateway.errors import ApiError, ClientLeftError, of_cluster
from sllmreal.gateway.fields import GenerationBody, parsed
from sllmreal.gateway.generation import Generation, Plan
from sllmreal.gateway.keys import Keyring, Principal, load_keys
from sllmreal.gateway.leaving import while_connected
from sllmreal.gateway.metrics import GatewayMetrics
from sllmreal.gateway.planning import Planner
from sllmreal.gateway.reading import read_body
from sllmreal.gateway.settings import GatewaySettings
from sllmreal.gateway.streaming import EventStream

CLIENT_LEFT = 499  # told to nobody: the client is gone


class GatewayService:
    """One gateway's state, shared by its routes."""

    def __init__(self, backend: Backend, settings: GatewaySettings) -> None:
        self.backend = backend
        self.settings = settings
        keys_file = settings.keys_file
        self.keyring = Keyring(None if keys_file is None else load_keys(keys_file))
        self.admission = Admission(settings.limits)
        self.metrics = GatewayMetrics(backend.snapshot)
        self.draining = False

    def refused(self, error: ApiError) -> None:
        """Count an answer that is an error."""
        self.metrics.refused.labels(error.code or str(error.status)).inc()

    def planner(self, request: Request) -> Planner:
        principal: Principal = request.state.principal
        return Planner(self.backend, self.settings.limits, principal)

    def ailments(self) -> list[str]:
        """What keeps the gateway from serving, nothing if it can."""
        health: Health = self.backend.health()
        signs = {
            "draining": self.draining,
            "no leader": not health.leader_alive,
            "store unreachable": not health.store_reachable,
            "no worker alive": health.num_workers_alive < 1,
            "driver stuck": health.driver_silence_s > self.settings.timeouts.driver_silence_s,
        }
        return [name for name, present in signs.items() if present]

    async def completion(self, request: Request) -> Response:
        """Answer /v1/completions."""
        body = parsed(CompletionRequest, await read_body(request, self.settings))
        request_id = f"cmpl-{secrets.token_hex(12)}"
        plan = await self.planner(request).completion(body, request_id)
        return await self._answer(
            request, plan, TextDialect(_heading(request_id, body, plan)), body
        )

    async def chat(self, request: Request) -> Response:
        """Answer /v1/chat/completions."""
        body = parsed(ChatRequest, await read_body(request, self.settings))
        request_id = f"chatcmpl-{secrets.token_hex(12)}"
        plan = await self.planner(request).chat(body, request_id)
        return await self._answer(
            request, plan, ChatDialect(_heading(request_id, body, plan)), body
        )

    async def _answer(
        self, request: Request, plan: Plan, dialect: Dialect, body: GenerationBody
    ) -> Response:
        generation = Generation(plan, self.backend, self.admission, self.metrics)
        request_id = plan.submissions[0].request_id.rpartition("-")[0]
        if body.stream:
            return EventStream(generation, dialect, request_id, self.settings)
        pieces: list[Delta] = []
        try:
            usage = await while_connected(request.receive, generation.run(pieces.append))
        except ClientLeftError:
            return Response(status_code=CLIENT_LEFT)
        except ClusterError as error:
            raise of_cluster(error) from error
        answer = dialect.whole(_joined(pieces, len(plan.submissions)), usage)
        headers = {"content-type": "application/json", "x-request-id": request_id}
        return Response(answer, headers=headers)


def _heading(request_id: str, body: GenerationBody, plan: Plan) -> Heading:
    with_ids = body.return_token_ids or plan.tokenizer is None
    return Heading(request_id, int(time.time()), body.model, with_ids, body.told_usage)


def _joined(pieces: list[Delta], num_choices: int) -> list[Delta]:
    """Each choice's deltas made one."""
    texts: list[list[str]] = [[] for _ in range(num_choices)]
    tokens: list[list[int]] = [[] for _ in range(num_choices)]
    finishes: list[str | None] = [None] * num_choices
    for piece in pieces:
        texts[piece.index].append(piece.text)
        tokens[piece.index].extend(piece.tokens)
        finishes[piece.index] = piece.finish
    return [
        Delta(index, "".join(texts[index]), tuple(tokens[index]), finishes[index])
        for index in range(num_choices)
    ]
