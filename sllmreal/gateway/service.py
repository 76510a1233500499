"""The state of one gateway, and its responses to generating requests."""

import logging
import secrets
import time
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from sllmcore.errors import ClusterError
from sllmreal.gateway.admission import Admission
from sllmreal.gateway.backend import Backend, Health
from sllmreal.gateway.bodies import ChatRequest, CompletionRequest
from sllmreal.gateway.disconnects import while_connected
from sllmreal.gateway.errors import ApiError, ClientLeftError, of_cluster
from sllmreal.gateway.fields import GenerationBody, parsed_body
from sllmreal.gateway.generation import Generation, GenerationPlan
from sllmreal.gateway.keys import Keyring, Principal, load_keys
from sllmreal.gateway.metrics import GatewayMetrics
from sllmreal.gateway.overload_log import OverloadLog
from sllmreal.gateway.planner import Planner
from sllmreal.gateway.request_body import read_body
from sllmreal.gateway.responses import ChatFormat, CompletionFormat, Delta, Heading, ResponseFormat
from sllmreal.gateway.settings import GatewaySettings
from sllmreal.gateway.streaming import EventStream
from sllmreal.gateway.token_scores import TokenScore
from sllmreal.gateway.tokenizing import (
    DetokenizeRequest,
    TokenizeRequest,
    detokenized,
    tokenized,
)

_LOG = logging.getLogger(__name__)
CLIENT_LEFT = 499  # nginx's status for a client that has disconnected; it is never received


@dataclass(frozen=True, slots=True)
class GatewayHealth:
    """The answer to /health: the status, and the reasons why the gateway cannot serve."""

    status: Literal["ok", "starting", "unhealthy"]
    reasons: tuple[str, ...]


class GatewayService:
    """The state of a gateway, shared by its routes."""

    def __init__(self, backend: Backend, settings: GatewaySettings) -> None:
        self.backend = backend
        self.settings = settings
        keys_file = settings.keys_file
        self.keyring = Keyring(None if keys_file is None else load_keys(keys_file))
        self.admission = Admission(settings.limits)
        self.metrics = GatewayMetrics(backend.metrics)
        self.draining = False
        self._has_served = False
        self._overload = OverloadLog()

    def count_error(self, error: ApiError) -> None:
        """Count and log a response that is an error.

        `Generation` logs the errors of the cluster.
        """
        self.metrics.refused.labels(error.code or str(error.status)).inc()
        if error.status in (429, 503):
            self._overload.refused(error.message)
        else:
            _LOG.debug("request refused with status %d: %s", error.status, error.message)

    def planner(self, request: Request) -> Planner:
        """Return the planner for the principal of an HTTP request."""
        principal: Principal = request.state.principal
        return Planner(self.backend, self.settings.limits, principal)

    def problems(self) -> list[str]:
        """Return the reasons why the gateway cannot serve; empty if it can. See `health`."""
        health: Health = self.backend.health()
        found = {
            "draining": self.draining,
            "no leader": not health.leader_alive,
            "store unreachable": not health.store_reachable,
            "no worker alive": health.num_workers_alive < 1,
            "driver stuck": health.driver_silence_s > self.settings.timeouts.driver_silence_s,
        }
        problems = [name for name, present in found.items() if present]
        self._has_served = self._has_served or not problems
        return problems

    def health(self) -> GatewayHealth:
        """Return the status: `starting` until a leader and a worker were there for the first time.

        After that `unhealthy` if there is a problem, else `ok`.
        """
        problems = self.problems()
        if not problems:
            return GatewayHealth("ok", ())
        starts = not self._has_served and not self.draining
        return GatewayHealth("starting" if starts else "unhealthy", tuple(problems))

    async def completion(self, request: Request) -> Response:
        """Answer /v1/completions."""
        body = parsed_body(CompletionRequest, await read_body(request, self.settings))
        request_id = f"cmpl-{secrets.token_hex(12)}"
        plan = await self.planner(request).completion(body, request_id)
        response_format = CompletionFormat(_heading(request_id, body, plan))
        return await self._answer(request, plan, response_format, stream=bool(body.stream))

    async def chat(self, request: Request) -> Response:
        """Answer /v1/chat/completions."""
        body = parsed_body(ChatRequest, await read_body(request, self.settings))
        request_id = f"chatcmpl-{secrets.token_hex(12)}"
        plan = await self.planner(request).chat(body, request_id)
        response_format = ChatFormat(_heading(request_id, body, plan))
        return await self._answer(request, plan, response_format, stream=bool(body.stream))

    async def tokenize(self, request: Request) -> dict[str, object]:
        """Answer /tokenize."""
        body = parsed_body(TokenizeRequest, await read_body(request, self.settings))
        return await tokenized(body, self.planner(request).model(body.model), self.backend)

    async def detokenize(self, request: Request) -> dict[str, object]:
        """Answer /detokenize."""
        body = parsed_body(DetokenizeRequest, await read_body(request, self.settings))
        return await detokenized(body, self.planner(request).model(body.model), self.backend)

    async def _answer(
        self,
        request: Request,
        plan: GenerationPlan,
        response_format: ResponseFormat,
        *,
        stream: bool,
    ) -> Response:
        generation = Generation(plan, self.backend, self.admission, self.metrics)
        heading = response_format.heading
        ids = {"request": heading.id, "model": heading.model}
        _LOG.debug(
            "request accepted: %d choices, %d prompt tokens",
            len(plan.requests),
            plan.prompt_tokens,
            extra=ids,
        )
        if stream:
            return EventStream(generation, response_format, self.settings)
        deltas: list[Delta] = []
        try:
            usage = await while_connected(request.receive, generation.run(deltas.append))
        except ClientLeftError as error:
            _LOG.info("%s", error, extra=ids)
            return Response(status_code=CLIENT_LEFT)
        except ClusterError as error:
            raise of_cluster(error) from error
        answer = response_format.whole(_joined(deltas, len(plan.requests)), usage)
        headers = {"content-type": "application/json", "x-request-id": heading.id}
        return Response(answer, headers=headers)


def _heading(request_id: str, body: GenerationBody, plan: GenerationPlan) -> Heading:
    with_ids = bool(body.return_token_ids) or plan.tokenizer is None
    return Heading(
        id=request_id,
        created=int(time.time()),
        model=body.model,
        token_ids=with_ids,
        usage=body.usage_in_stream,
        logprobs=plan.has_logprobs,
    )


def _joined(deltas: list[Delta], num_choices: int) -> list[Delta]:
    """Return one delta per choice, with all its text and tokens."""
    texts: list[list[str]] = [[] for _ in range(num_choices)]
    tokens: list[list[int]] = [[] for _ in range(num_choices)]
    finishes: list[str | None] = [None] * num_choices
    scores: list[list[TokenScore]] = [[] for _ in range(num_choices)]
    for delta in deltas:
        texts[delta.index].append(delta.text)
        tokens[delta.index].extend(delta.tokens)
        finishes[delta.index] = delta.finish
        scores[delta.index].extend(delta.scores)
    return [
        Delta(
            index,
            "".join(texts[index]),
            tuple(tokens[index]),
            finishes[index],
            tuple(scores[index]),
        )
        for index in range(num_choices)
    ]
