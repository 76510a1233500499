"""/v1/completions in process."""

import pytest

from experiments.campaigns.gateway import tiny
from experiments.campaigns.gateway.clients import events, in_process, with_limits
from experiments.campaigns.gateway.fakes import ANSWER, FakeBackend, answering
from sllmreal.engine.protocol import FinishReason
from sllmreal.gateway.backend import FailedError, Generated, RejectedError, TimedOutError

BODY = {"model": "tiny/chat", "prompt": "Hello", "max_tokens": 100}
pytestmark = pytest.mark.asyncio


async def test_a_completion_has_text_and_usage() -> None:
    backend = FakeBackend()
    prompt = tiny.tokenizer().encode("Hello", special=True)
    output = tiny.tokenizer().encode(ANSWER, special=False)

    async with in_process(backend) as client:
        answer = (await client.post("/v1/completions", json=BODY)).json()

    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    assert answer["model"] == "tiny/chat"
    assert answer["choices"] == [
        {"text": ANSWER, "index": 0, "logprobs": None, "finish_reason": "stop"}
    ]
    assert answer["usage"] == {
        "prompt_tokens": len(prompt),
        "completion_tokens": len(output) + 1,  # the stop token is generated, and not text
        "total_tokens": len(prompt) + len(output) + 1,
    }
    assert backend.requests[0].prompt == tuple(prompt)
    assert backend.requests[0].stop_tokens == {tiny.EOS}
    assert not backend.running


async def test_the_default_of_max_tokens_is_that_of_openai() -> None:
    backend = FakeBackend()
    async with in_process(backend) as client:
        body = {"model": "tiny/chat", "prompt": "Hello", "return_token_ids": True}
        answer = (await client.post("/v1/completions", json=body)).json()

    assert answer["choices"][0]["finish_reason"] == "length"
    assert len(answer["choices"][0]["token_ids"]) == 16
    assert backend.requests[0].max_output_tokens == 16


@pytest.mark.parametrize("batch", [1, 3, 100])
async def test_a_stream_has_the_same_text_as_the_whole_response(batch: int) -> None:
    backend = FakeBackend(answering(ANSWER, batch=batch))
    async with in_process(backend) as client:
        body = BODY | {"stream": True, "stream_options": {"include_usage": True}}
        response = await client.post("/v1/completions", json=body)

    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *chunks, usage = events(response.text)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == ANSWER  # type: ignore[index]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]  # type: ignore[index]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk["usage"] is None for chunk in chunks)
    assert usage["choices"] == []
    num_output = len(tiny.tokenizer().encode(ANSWER, special=False)) + 1
    assert usage["usage"]["completion_tokens"] == num_output  # type: ignore[index]


@pytest.mark.parametrize("route", ["completions", "chat/completions"])
async def test_every_event_has_the_usage_so_far_if_requested(route: str) -> None:
    backend = FakeBackend(answering(ANSWER, batch=1))
    options = {"include_usage": True, "continuous_usage_stats": True}
    chat = {"messages": [{"role": "user", "content": "Hello"}]} if "chat" in route else {}
    body = {key: BODY[key] for key in BODY if key != "prompt" or not chat} | chat
    async with in_process(backend) as client:
        body |= {"stream": True, "stream_options": options}
        response = await client.post(f"/v1/{route}", json=body)

    *chunks, last = events(response.text)
    texts = [chunk for chunk in chunks if chunk["usage"] is not None]
    counts = [chunk["usage"]["completion_tokens"] for chunk in texts]  # type: ignore[index]
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert texts[-1]["usage"] == last["usage"]


async def test_a_stream_has_no_usage_without_the_option() -> None:
    async with in_process(FakeBackend()) as client:
        response = await client.post("/v1/completions", json=BODY | {"stream": True})

    assert all("usage" not in chunk for chunk in events(response.text))


async def test_a_choice_ends_before_a_stop_string_and_its_generation_is_cancelled() -> None:
    backend = FakeBackend()
    async with in_process(backend) as client:
        body = BODY | {"stop": ["thank", "nai"]}
        whole = (await client.post("/v1/completions", json=body)).json()
        streamed = await client.post("/v1/completions", json=body | {"stream": True})

    assert whole["choices"][0]["text"] == "I am well, "
    assert whole["choices"][0]["finish_reason"] == "stop"
    texts = [chunk["choices"][0]["text"] for chunk in events(streamed.text)]  # type: ignore[index]
    assert "".join(texts) == "I am well, "
    assert not backend.running


async def test_there_are_prompts_times_n_choices_with_distinct_seeds() -> None:
    backend = FakeBackend()
    async with in_process(backend) as client:
        body = BODY | {"prompt": [[5, 6], [7]], "n": 2, "seed": 40, "temperature": 0.5}
        answer = (await client.post("/v1/completions", json=body)).json()

    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert [(one.prompt, one.sampling.seed) for one in backend.requests] == [
        ((5, 6), 40),
        ((5, 6), 41),
        ((7,), 40),
        ((7,), 41),
    ]
    assert answer["usage"]["prompt_tokens"] == 3


async def test_a_model_without_tokenizer_takes_and_returns_token_ids_only() -> None:
    def script(_: object) -> list[Generated]:
        return [Generated((9, 8)), Generated((7,), FinishReason.LENGTH)]

    async with in_process(FakeBackend(script)) as client:
        ids = {"model": "ids-only", "prompt": [3, 4], "max_tokens": 3}
        answer = (await client.post("/v1/completions", json=ids)).json()
        text = await client.post("/v1/completions", json=ids | {"prompt": "Hello"})

    assert answer["choices"][0]["token_ids"] == [9, 8, 7]
    assert answer["choices"][0]["text"] == ""
    assert text.status_code == 400
    assert text.json()["error"]["code"] == "text_not_supported"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RejectedError("no room", 2.5), 429, "rejected"),
        (TimedOutError("waited 300 s"), 504, "timed_out"),
        (FailedError("the checkpoint is corrupt"), 500, "generation_failed"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_of_the_cluster_becomes_a_status(
    error: Exception, status: int, code: str, stream: bool
) -> None:
    backend = FakeBackend(lambda _: [error])
    async with in_process(backend) as client:
        response = await client.post("/v1/completions", json=BODY | {"stream": stream})

    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert response.headers.get("retry-after") == ("3" if status == 429 else None)


async def test_an_error_after_the_first_token_is_the_last_event() -> None:
    backend = FakeBackend(lambda _: [Generated((40,)), FailedError("lost twice")])
    async with in_process(backend) as client:
        response = await client.post("/v1/completions", json=BODY | {"stream": True})

    assert response.status_code == 200
    assert '"code":"generation_failed"' in response.text
    assert "[DONE]" not in response.text


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"echo": "yes"}, "echo"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"suffix": "x"}, "suffix"),
        ({"colour": "red"}, "colour"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 1_024, "prompt": [[5]] * 5}, "n"),
        ({"n": 1_024, "max_tokens": 500, "prompt": [[5]] * 3}, "max_tokens"),
        ({"min_tokens": 101}, "min_tokens"),
        ({"min_p": 1.1}, "min_p"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": -2.1}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"100000": 1}}, "logit_bias"),
        ({"stop_token_ids": [100_000]}, "stop_token_ids"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"stop": [""]}, "stop"),
        ({"stop": [f"{number:08}" for number in range(2_049)]}, "stop"),
        ({"stop": "x" * 4_097}, "stop"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [100_000]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
async def test_an_invalid_field_is_named(change: dict[str, object], param: str) -> None:
    backend = FakeBackend()
    async with in_process(backend) as client:
        response = await client.post("/v1/completions", json=BODY | change)

    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert error["type"] == "invalid_request_error"
    assert backend.requests == []


async def test_a_request_longer_than_the_context_is_refused() -> None:
    async with in_process(FakeBackend()) as client:
        response = await client.post("/v1/completions", json=BODY | {"max_tokens": 512})

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


async def test_an_unknown_model_is_not_found() -> None:
    async with in_process(FakeBackend()) as client:
        response = await client.post("/v1/completions", json=BODY | {"model": "gpt-5"})

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b"\xff", b'{"model": NaN}', b"[" * 9999]
)
async def test_an_invalid_body_is_refused(raw: bytes) -> None:
    async with in_process(FakeBackend()) as client:
        response = await client.post("/v1/completions", content=raw)

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_long_body_is_refused_before_it_is_parsed() -> None:
    async with in_process(FakeBackend(), with_limits(body_bytes=1_000)) as client:
        response = await client.post("/v1/completions", content=b"{" * 1_001)

    assert response.status_code == 413


async def test_a_prompt_above_the_limit_is_refused() -> None:
    backend = FakeBackend()
    async with in_process(backend, with_limits(prompt_tokens=3)) as client:
        four = await client.post("/v1/completions", json=BODY | {"prompt": [5, 5, 5, 5]})
        three = await client.post("/v1/completions", json=BODY | {"prompt": [5, 5, 5]})

    assert (four.status_code, three.status_code) == (400, 200)


async def test_an_unserved_field_with_its_default_is_accepted() -> None:
    async with in_process(FakeBackend()) as client:
        defaults = {"frequency_penalty": 0.0, "best_of": 1, "logit_bias": None, "echo": False}
        response = await client.post("/v1/completions", json=BODY | defaults)

    assert response.status_code == 200
