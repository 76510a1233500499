"""Parameters of vLLM's server and of OpenAI's API beyond the basic ones, in process."""

import json
from dataclasses import replace

import pytest

from experiments.campaigns.gateway import tiny
from experiments.campaigns.gateway.clients import OPEN, events, in_process, with_limits
from experiments.campaigns.gateway.fakes import ANSWER, FakeBackend, answering
from sllmreal.engine.protocol import FinishReason, Sampling
from sllmreal.gateway.backend import Generated
from sllmreal.gateway.bodies import ChatRequest, CompletionRequest

COMPLETION = {"model": "tiny/chat", "prompt": "Hello", "max_tokens": 100}
MESSAGES = [{"role": "user", "content": "Hello"}]
CHAT = {"model": "tiny/chat", "messages": MESSAGES}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
pytestmark = pytest.mark.asyncio


async def text_of(backend: FakeBackend, **fields: object) -> str:
    """Return the text of the first choice, which must be the same if it is streamed."""
    async with in_process(backend) as client:
        whole = await client.post("/v1/completions", json=COMPLETION | fields)
        streamed = await client.post("/v1/completions", json=COMPLETION | fields | {"stream": True})
    assert whole.status_code == 200, whole.text
    text = str(whole.json()["choices"][0]["text"])
    chunks = [one["choices"][0] for one in events(streamed.text)]  # type: ignore[index]
    assert "".join(chunk["text"] for chunk in chunks if chunk["index"] == 0) == text
    return text


async def prompt_of(**fields: object) -> str:
    """Return the prompt that the engine gets for a chat request."""
    backend = FakeBackend()
    async with in_process(backend) as client:
        response = await client.post("/v1/chat/completions", json=CHAT | fields)
    assert response.status_code == 200, response.text
    entries = tiny.tokenizer().entries(backend.requests[0].prompt)
    return "".join(entries).replace("Ġ", " ").replace("Ċ", "\n")


@pytest.mark.parametrize("kind", [CompletionRequest, ChatRequest])
async def test_null_stands_for_any_optional_field(kind: type) -> None:
    """Fails if a field has a default but no null."""
    body = COMPLETION if kind is CompletionRequest else CHAT
    fields = kind.model_fields  # type: ignore[attr-defined]
    optional = {name for name, field in fields.items() if not field.is_required()}
    names = optional | set(kind.unserved) | kind.informing  # type: ignore[attr-defined]
    path = "/v1/completions" if kind is CompletionRequest else "/v1/chat/completions"
    async with in_process(FakeBackend()) as client:
        response = await client.post(path, json=dict.fromkeys(names) | body)

    assert response.status_code == 200, response.text


async def test_fields_that_only_inform_are_accepted_with_any_value() -> None:
    informing = {
        "metadata": {"a": "b"},
        "prompt_cache_key": "x",
        "safety_identifier": "x",
        "user": "u",
        "store": True,
        "service_tier": "flex",
    }
    async with in_process(FakeBackend()) as client:
        for path, body in (("completions", COMPLETION), ("chat/completions", CHAT)):
            response = await client.post(f"/v1/{path}", json=body | informing)
            assert response.status_code == 200, response.text


async def test_sampling_fields_reach_the_engine() -> None:
    backend = FakeBackend()
    fields = {
        "temperature": 0.5,
        "min_p": 0.1,
        "presence_penalty": 0.2,
        "frequency_penalty": -0.3,
        "repetition_penalty": 1.4,
        "logit_bias": {"7": -100, "8": 1.5},
        "min_tokens": 2,
        "stop_token_ids": [9, 11],
        "seed": 5,
    }
    async with in_process(backend) as client:
        await client.post("/v1/completions", json=COMPLETION | fields)
        await client.post("/v1/completions", json=COMPLETION | fields | {"ignore_eos": True})

    bias = ((7, -100.0), (8, 1.5))
    expected = Sampling(
        temperature=0.5,
        top_k=None,
        top_p=1.0,
        seed=5,
        min_p=0.1,
        presence_penalty=0.2,
        frequency_penalty=-0.3,
        repetition_penalty=1.4,
        logit_bias=bias,
        min_tokens=2,
    )
    assert backend.requests[0].sampling == expected
    assert [one.stop_tokens for one in backend.requests] == [{tiny.EOS, 9, 11}, {9, 11}]


async def test_there_may_be_many_stop_strings_and_prompts() -> None:
    backend = FakeBackend()
    stops = [f"never {number}" for number in range(500)] + ["thank"]
    assert await text_of(backend, stop=stops) == "I am well, "

    backend = FakeBackend(answering("Hello", batch=1))
    async with in_process(backend, with_limits(waiting=20)) as client:
        body = COMPLETION | {"prompt": [[5 + number] for number in range(200)], "n": 2}
        answer = await client.post("/v1/completions", json=body | {"max_tokens": 10})

    choices = answer.json()["choices"]
    assert [choice["index"] for choice in choices] == list(range(400))
    assert {choice["text"] for choice in choices} == {"Hello"}
    assert [one.prompt for one in backend.requests[:3]] == [(5,), (5,), (6,)]
    assert answer.json()["usage"]["prompt_tokens"] == 200


async def test_no_more_choices_of_a_request_run_at_once_than_the_limit() -> None:
    most = 0

    def script(request: object) -> list[Generated]:
        nonlocal most
        most = max(most, len(backend.running))
        return [Generated((5,)), Generated((6,), FinishReason.LENGTH)]

    backend = FakeBackend(script)
    async with in_process(backend, with_limits(choices_at_once=3)) as client:
        body = COMPLETION | {"prompt": [[5]] * 20}
        assert (await client.post("/v1/completions", json=body)).status_code == 200

    assert most == 3


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"stop": ["thank"]}, "I am well, "),
        ({"stop": ["thank"], "include_stop_str_in_output": True}, "I am well, thank"),
        ({"stop": ["I am", ", th"], "min_tokens": 4}, "I am well"),
    ],
)
async def test_stop_strings_end_the_text(fields: dict[str, object], expected: str) -> None:
    assert await text_of(FakeBackend(), **fields) == expected


async def test_the_text_of_a_stop_token_is_returned_if_requested() -> None:
    comma = tiny.tokenizer().encode(",", special=False)

    def script(_: object) -> list[Generated]:
        tokens = tiny.tokenizer().encode("Hello,", special=False)
        return [Generated(tuple(tokens), FinishReason.STOP)]

    fields: dict[str, object] = {"stop_token_ids": comma}
    assert await text_of(FakeBackend(script), **fields) == "Hello"
    fields["include_stop_str_in_output"] = True
    assert await text_of(FakeBackend(script), **fields) == "Hello,"


async def test_echo_returns_the_prompt_before_the_output() -> None:
    assert await text_of(FakeBackend(), echo=True) == "Hello" + ANSWER
    assert await text_of(FakeBackend(), echo=True, stop="Hello") == "Hello" + ANSWER


@pytest.mark.parametrize("cut", range(1, 12))
async def test_echo_and_output_are_the_text_of_all_tokens(cut: int) -> None:
    tokens = tiny.tokenizer().encode("a 🌶 é日", special=False)

    def script(_: object) -> list[Generated]:
        return [Generated(tuple(tokens[cut:]), FinishReason.LENGTH)]

    backend = FakeBackend(script)
    assert len(tokens) > 11
    assert await text_of(backend, prompt=tokens[:cut], echo=True) == "a 🌶 é日"


async def test_no_tokens_are_generated_for_the_echo_alone() -> None:
    backend = FakeBackend()
    fields: dict[str, object] = {"echo": True, "max_tokens": 0}
    assert await text_of(backend, prompt=["Hello", "world"], **fields) == "Hello"
    assert backend.requests == []
    async with in_process(backend) as client:
        answer = (await client.post("/v1/completions", json=COMPLETION | fields)).json()

    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 0


async def test_messages_may_have_null_content_tool_calls_and_results() -> None:
    history = [
        *MESSAGES,
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": "3"},
        {"role": "assistant", "content": "Hi", "refusal": None, "annotations": [], "audio": None,
         "function_call": None, "tool_calls": None, "reasoning_content": "r"},
        *MESSAGES,
    ]  # fmt: skip

    assert await prompt_of(messages=history) == (
        "<s><user>Hello\n<assistant>\n<assistant>\n<tool>3\n<assistant>Hi\n<user>Hello\n<assistant>"
    )


async def test_a_template_gets_calls_with_decoded_arguments_and_the_fields_of_messages() -> None:
    message = {"role": "assistant", "content": "x", "reasoning": "r", "tool_calls": [CALL]}
    body = ChatRequest.model_validate_json(
        json.dumps({"model": "m", "messages": [message | {"name": "bob"}]})
    )

    fields = dict(body.messages[0].message.fields)

    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    assert fields == {"name": "bob", "tool_calls": [call], "reasoning_content": "r"}


async def test_tools_are_accepted_if_the_model_shall_not_call_them() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]

    assert await prompt_of(tools=tools, tool_choice="none") == "<s><user>Hello\n<assistant>"


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
async def test_a_part_that_is_no_text_is_refused_by_its_kind(kind: str) -> None:
    parts = [{"type": "text", "text": "x"}, {"type": kind, kind: {"url": "data:,"}}]
    async with in_process(FakeBackend()) as client:
        body = CHAT | {"messages": [{"role": "user", "content": parts}]}
        response = await client.post("/v1/chat/completions", json=body)

    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "messages")
    assert "not supported" in error["message"]
    assert {"image_url": "Images", "input_audio": "Audio", "file": "Files"}[kind] in error[
        "message"
    ]


async def test_the_template_may_continue_the_last_message_or_begin_no_turn() -> None:
    turns = [*MESSAGES, {"role": "assistant", "content": "I am well "}]

    continued = await prompt_of(messages=turns, continue_final_message=True)
    ended = await prompt_of(messages=turns, add_generation_prompt=False)

    assert continued == "<s><user>Hello\n<assistant>I am well "
    assert ended == "<s><user>Hello\n<assistant>I am well \n"


async def test_variables_reach_the_template() -> None:
    assert await prompt_of(chat_template_kwargs={"bos_token": "world"}) == (
        "world<user>Hello\n<assistant>"
    )


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("completions", {"prompt_logprobs": 1}, "prompt_logprobs"),
        ("completions", {"best_of": 2}, "best_of"),
        ("chat/completions", {"response_format": {"type": "json_object"}}, "response_format"),
        ("chat/completions", {"prompt_logprobs": 1}, "prompt_logprobs"),
        ("chat/completions", {"modalities": ["audio"]}, "modalities"),
    ],
)
async def test_a_refusal_names_parameter_reason_and_remedy(
    path: str, fields: dict[str, object], param: str
) -> None:
    body = COMPLETION if path == "completions" else CHAT
    async with in_process(FakeBackend()) as client:
        error = (await client.post(f"/v1/{path}", json=body | fields)).json()["error"]

    assert error["param"] == param
    assert error["message"].startswith(f"{param} is not supported by this server: ")
    assert error["message"].endswith("Remove it or leave it at its default.")


async def test_tokenize_and_detokenize_are_each_other_s_inverse() -> None:
    async with in_process(FakeBackend()) as client:
        body = {"model": "tiny/chat", "prompt": "Hello 🌶"}
        answer = await client.post("/tokenize", json=body | {"return_token_strs": True})
        tokens = answer.json()["tokens"]
        back = await client.post("/detokenize", json={"model": "tiny/chat", "tokens": tokens})
        chat = await client.post("/tokenize", json=CHAT)
        wrong = [
            await client.post("/tokenize", json={"model": "tiny/chat"}),
            await client.post("/tokenize", json={"model": "ids-only", "prompt": "x"}),
            await client.post("/detokenize", json={"model": "tiny/chat", "tokens": [99_999]}),
            await client.post("/tokenize", json={"model": "absent", "prompt": "x"}),
        ]

    assert answer.json()["count"] == len(tokens)
    assert answer.json()["max_model_len"] == 512
    assert len(answer.json()["token_strs"]) == len(tokens)
    assert back.json() == {"prompt": "Hello 🌶"}
    rendered = "<s><user>Hello\n<assistant>"
    assert chat.json()["tokens"] == tiny.tokenizer().encode(rendered, special=False)
    assert [response.status_code for response in wrong] == [400, 400, 400, 404]


async def test_head_is_answered_as_get_without_a_body() -> None:
    async with in_process(FakeBackend()) as client:
        for path in ("/v1/models", "/health", "/ping", "/metrics", "/version", "/absent"):
            get, head = await client.get(path), await client.head(path)
            assert (head.status_code, head.content) == (get.status_code, b"")


async def test_events_pass_proxies_that_collect_responses() -> None:
    async with in_process(FakeBackend()) as client:
        response = await client.post("/v1/completions", json=COMPLETION | {"stream": True})

    assert response.headers["x-accel-buffering"] == "no"


async def test_pages_of_configured_origins_only_may_call_the_api() -> None:
    asks = {"origin": "http://page.example", "access-control-request-method": "POST"}
    settings = replace(OPEN, cors_origins=("http://page.example",))
    async with in_process(FakeBackend(), settings) as client:
        allowed = await client.options("/v1/chat/completions", headers=asks)
        other = await client.options(
            "/v1/chat/completions", headers=asks | {"origin": "http://other.example"}
        )
        answer = await client.get("/v1/models", headers={"origin": "http://page.example"})
    async with in_process(FakeBackend()) as client:
        closed = await client.options("/v1/chat/completions", headers=asks)

    assert allowed.headers["access-control-allow-origin"] == "http://page.example"
    assert answer.headers["access-control-allow-origin"] == "http://page.example"
    assert "access-control-allow-origin" not in other.headers
    assert "access-control-allow-origin" not in closed.headers


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/responses", "/v1/audio/speech"])
async def test_an_unserved_endpoint_is_refused_with_its_reason(path: str) -> None:
    async with in_process(FakeBackend()) as client:
        response = await client.post(path, json={})

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "unsupported_endpoint"
    assert response.json()["error"]["message"].startswith(f"{path} is not supported")
