"""Clients of a soak, which check each token of their answers.

They request short and long answers, whole or streamed, through the router or over HTTP, and read
them to the end or leave in the middle.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx

from experiments.campaigns.cluster.testbed import ClusterTestbed, expected_tokens
from sllmreal.gateway.backend import GenerationRequest

LONG_TOKENS = 600  # three seconds at 5 ms per token
ANSWER_S = 240.0  # a request that takes longer counts as lost; long, because machines may be busy


@dataclass(slots=True)
class SoakRequests:
    """Number of answered requests by the way they were made, and failures in words."""

    answered: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


class SoakClient:
    """A client that sends one request after another, each in a random way.

    Args:
        http: Client of the testbed's gateway.
        results: Receives the answered requests and the failures.
    """

    def __init__(
        self,
        testbed: ClusterTestbed,
        http: httpx.AsyncClient,
        results: SoakRequests,
        rng: random.Random,
        name: str,
    ) -> None:
        self._testbed = testbed
        self._http = http
        self._results = results
        self._rng = rng
        self._name = name
        self._ways = {
            "taken whole": self._at_router,
            "left at the router": self._left_at_router,
            "answered whole over HTTP": self._whole,
            "streamed over HTTP": self._streamed,
            "left over HTTP": self._left_over_http,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Send requests until `stop`; record every error and every wrong token."""
        number = 0
        while not stop.is_set():
            number += 1
            way = self._rng.choice(tuple(self._ways))
            request = self._request(number)
            try:
                async with asyncio.timeout(ANSWER_S):
                    tokens, whole = await self._ways[way](request)
            except Exception as error:  # any error is a failure of the cluster
                reason = f"{type(error).__name__}: {error}{self._instance(request)}"
                self._fail(request, way, reason)
                continue
            self._results.answered[way] += 1
            expected = await asyncio.to_thread(expected_tokens, request)
            if tokens != (expected if whole else expected[: len(tokens)]):
                self._fail(request, way, "tokens differ from an undisturbed run")

    def _fail(self, request: GenerationRequest, way: str, reason: str) -> None:
        self._results.failures.append(f"{request.request_id} {way}: {reason}")

    def _instance(self, request: GenerationRequest) -> str:
        """Return the instance of a request that is still open at the router, for a message."""
        for request_id, call in self._testbed.router.generations.items():
            if request_id.startswith(request.request_id):
                return f" ({request_id} runs on instance {call.owner.instance_id})"
        return ""

    def _request(self, number: int) -> GenerationRequest:
        rng = self._rng
        prompt = tuple(rng.randrange(1000) for _ in range(rng.choice((1, 20, 300))))
        num_tokens = LONG_TOKENS if rng.random() < 0.1 else rng.randint(1, 60)
        request_id = f"{self._name}-{number}"
        return GenerationRequest(
            request_id=request_id,
            model=rng.choice(self._testbed.models),
            tenant="",
            prompt=prompt,
            max_output_tokens=num_tokens,
        )

    async def _at_router(self, request: GenerationRequest) -> tuple[tuple[int, ...], bool]:
        tokens: list[int] = []
        async for generated in self._testbed.router.submit(request):
            tokens += generated.tokens
        return tuple(tokens), True

    async def _left_at_router(self, request: GenerationRequest) -> tuple[tuple[int, ...], bool]:
        call = self._testbed.router.submit(request)
        tokens: list[int] = []
        wanted = self._rng.randrange(request.max_output_tokens)
        try:
            while len(tokens) < wanted:
                tokens += (await anext(call)).tokens
        finally:
            await call.aclose()
        return tuple(tokens), False

    async def _whole(self, request: GenerationRequest) -> tuple[tuple[int, ...], bool]:
        response = await self._http.post("/v1/completions", json=_body(request, stream=False))
        response.raise_for_status()
        return tuple(response.json()["choices"][0]["token_ids"]), True

    async def _streamed(self, request: GenerationRequest) -> tuple[tuple[int, ...], bool]:
        tokens: list[int] = []
        async for some in self._stream(request):
            tokens += some
        return tuple(tokens), True

    async def _left_over_http(self, request: GenerationRequest) -> tuple[tuple[int, ...], bool]:
        tokens: list[int] = []
        wanted = self._rng.randrange(request.max_output_tokens)
        async for some in self._stream(request):
            tokens += some
            if len(tokens) >= wanted:
                break
        return tuple(tokens), False

    async def _stream(self, request: GenerationRequest) -> AsyncIterator[list[int]]:
        body = _body(request, stream=True)
        async with self._http.stream("POST", "/v1/completions", json=body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    event = json.loads(line.removeprefix("data: "))
                    if "error" in event:
                        raise RuntimeError(event["error"]["message"])
                    yield [
                        one for choice in event["choices"] for one in choice.get("token_ids", ())
                    ]


def _body(request: GenerationRequest, *, stream: bool) -> dict[str, object]:
    return {
        "model": request.model,
        "prompt": list(request.prompt),
        "max_tokens": request.max_output_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
        "stream": stream,
    }
