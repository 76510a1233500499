"""A real server and OpenAI's own client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import openai
import pytest

from experiments.campaigns.gateway.clients import OPEN, keys_file, serving
from experiments.campaigns.gateway.fakes import ANSWER, FakeBackend
from sllmreal.gateway.backend import FailedError, Generated, RejectedError

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def connected(
    backend: FakeBackend, tmp_path: Path, key: str = "a"
) -> AsyncIterator[openai.AsyncOpenAI]:
    settings = replace(OPEN, keys_file=keys_file(tmp_path, a={"tenant": "a"}))
    async with (
        serving(backend, settings) as (host, port),
        openai.AsyncOpenAI(
            api_key=key, base_url=f"http://{host}:{port}/v1", max_retries=0
        ) as client,
    ):
        yield client


async def test_models_completions_and_chat_work(tmp_path: Path) -> None:
    async with connected(FakeBackend(), tmp_path) as client:
        models = [model.id async for model in client.models.list()]
        model = await client.models.retrieve("tiny/chat")
        text = await client.completions.create(model="tiny/chat", prompt="Hello", max_tokens=99)
        chat = await client.chat.completions.create(
            model="tiny/chat", messages=[{"role": "user", "content": "Hello"}]
        )

    assert models == ["tiny/chat", "ids-only"]
    assert model.owned_by == "sllm"
    assert text.choices[0].text == ANSWER
    assert text.usage is not None
    assert chat.choices[0].message.content == ANSWER
    assert chat.choices[0].finish_reason == "stop"
    assert chat._request_id == chat.id


async def test_streams_work(tmp_path: Path) -> None:
    async with connected(FakeBackend(), tmp_path) as client:
        chat = await client.chat.completions.create(
            model="tiny/chat",
            messages=[{"role": "user", "content": "Hello"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in chat]
        completion = await client.completions.create(
            model="tiny/chat", prompt="Hello", max_tokens=5, stream=True
        )
        texts = [chunk.choices[0] async for chunk in completion]

    *parts, last = chunks
    assert "".join(part.choices[0].delta.content or "" for part in parts) == ANSWER
    assert parts[-1].choices[0].finish_reason == "stop"
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens > 0
    assert texts[-1].finish_reason == "length"
    assert ANSWER.startswith("".join(choice.text for choice in texts))


async def test_errors_are_raised_as_the_clients_own_classes(tmp_path: Path) -> None:
    backend = FakeBackend()
    async with connected(backend, tmp_path) as client:

        async def ask(model: str = "tiny/chat", **more: float) -> None:
            await client.completions.create(model=model, prompt="Hello", **more)  # type: ignore[call-overload]

        with pytest.raises(openai.NotFoundError) as absent:
            await ask("absent")
        with pytest.raises(openai.BadRequestError) as wrong:
            await ask(temperature=9)
        backend.script = lambda _: [RejectedError("full", 7)]
        with pytest.raises(openai.RateLimitError) as full:
            await ask()
        backend.script = lambda _: [FailedError("lost")]
        with pytest.raises(openai.InternalServerError):
            await ask()

    assert absent.value.code == "model_not_found"
    assert wrong.value.param == "temperature"
    assert full.value.response.headers["retry-after"] == "7"


async def test_a_wrong_key_is_an_authentication_error(tmp_path: Path) -> None:
    async with connected(FakeBackend(), tmp_path, key="wrong") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.models.list()

    assert refused.value.code == "invalid_api_key"


async def test_an_error_in_a_stream_is_raised_from_it(tmp_path: Path) -> None:
    backend = FakeBackend(lambda _: [Generated((40,)), FailedError("lost twice")])
    async with connected(backend, tmp_path) as client:
        stream = await client.completions.create(model="tiny/chat", prompt="Hello", stream=True)
        with pytest.raises(openai.APIError, match="lost twice"):
            async for _ in stream:
                pass
