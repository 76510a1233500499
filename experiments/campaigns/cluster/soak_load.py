"""What the clients of a soak do: short and long answers, whole and streamed, taken to the end or
left in the middle, at the desk and over HTTP. Each token is checked."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx

from experiments.campaigns.cluster.kills import World, expected
from sllmreal.gateway.backend import GenerationRequest

LONG_TOKENS = 600  # three seconds
ANSWER_S = 240.0  # what takes longer is lost: a busy machine may be slow


@dataclass(slots=True)
class Done:
    """What came of the requests, by what was done."""

    answered: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Client:
    """Asks one thing after another.

    Args:
        http: The gateway's.
    """

    def __init__(
        self, on: World, http: httpx.AsyncClient, done: Done, rng: random.Random, name: str
    ) -> None:
        self._on = on
        self._http = http
        self._done = done
        self._rng = rng
        self._name = name
        self._ways = {
            "taken whole": self._at_router,
            "left at the desk": self._left_at_router,
            "answered whole over HTTP": self._whole,
            "streamed over HTTP": self._streamed,
            "left over HTTP": self._left_over_http,
        }

    async def keep_asking(self, stop: asyncio.Event) -> None:
        """Until told to stop. Whatever goes wrong is noted."""
        number = 0
        while not stop.is_set():
            number += 1
            way = self._rng.choice(tuple(self._ways))
            asked = self._asked(number)
            try:
                async with asyncio.timeout(ANSWER_S):
                    tokens, whole = await self._ways[way](asked)
            except Exception as error:  # whatever it is, it is a finding
                what = f"{type(error).__name__}: {error}{self._where(asked)}"
                self._done.wrong.append(f"{asked.request_id} {way}: {what}")
                continue
            self._done.answered[way] += 1
            right = await asyncio.to_thread(expected, asked)
            if tokens != (right if whole else right[: len(tokens)]):
                self._done.wrong.append(f"{asked.request_id} {way}: other tokens than undisturbed")

    def _where(self, asked: GenerationRequest) -> str:
        """What the desk knows of a request that is still open there."""
        for request_id, call in self._on.router.generations.items():
            if request_id.startswith(asked.request_id):
                return f" ({request_id} runs at {call.owner.instance_id})"
        return ""

    def _asked(self, number: int) -> GenerationRequest:
        rng = self._rng
        prompt = tuple(rng.randrange(1000) for _ in range(rng.choice((1, 20, 300))))
        num_tokens = LONG_TOKENS if rng.random() < 0.1 else rng.randint(1, 60)
        request_id = f"{self._name}-{number}"
        return GenerationRequest(request_id, rng.choice(self._on.models), "", prompt, num_tokens)

    async def _at_router(self, asked: GenerationRequest) -> tuple[tuple[int, ...], bool]:
        tokens: list[int] = []
        async for generated in self._on.router.submit(asked):
            tokens += generated.tokens
        return tuple(tokens), True

    async def _left_at_router(self, asked: GenerationRequest) -> tuple[tuple[int, ...], bool]:
        call = self._on.router.submit(asked)
        tokens: list[int] = []
        wanted = self._rng.randrange(asked.max_output_tokens)
        try:
            while len(tokens) < wanted:
                tokens += (await anext(call)).tokens
        finally:
            await call.aclose()
        return tuple(tokens), False

    async def _whole(self, asked: GenerationRequest) -> tuple[tuple[int, ...], bool]:
        response = await self._http.post("/v1/completions", json=_body(asked, stream=False))
        response.raise_for_status()
        return tuple(response.json()["choices"][0]["token_ids"]), True

    async def _streamed(self, asked: GenerationRequest) -> tuple[tuple[int, ...], bool]:
        tokens: list[int] = []
        async for some in self._stream(asked):
            tokens += some
        return tuple(tokens), True

    async def _left_over_http(self, asked: GenerationRequest) -> tuple[tuple[int, ...], bool]:
        tokens: list[int] = []
        wanted = self._rng.randrange(asked.max_output_tokens)
        async for some in self._stream(asked):
            tokens += some
            if len(tokens) >= wanted:
                break
        return tuple(tokens), False

    async def _stream(self, asked: GenerationRequest) -> AsyncIterator[list[int]]:
        body = _body(asked, stream=True)
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


def _body(asked: GenerationRequest, *, stream: bool) -> dict[str, object]:
    return {
        "model": asked.model,
        "prompt": list(asked.prompt),
        "max_tokens": asked.max_output_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
        "stream": stream,
    }
