"""/v1/chat/completions in process."""

import pytest

from experiments.campaigns.gateway import tiny
from experiments.campaigns.gateway.clients import events, in_process
from experiments.campaigns.gateway.fakes import ANSWER, FakeBackend

MESSAGES = [
    {"role": "developer", "content": "Be kind."},
    {"role": "user", "content": [{"type": "text", "text": "How"}, {"type": "text", "text": "?"}]},
]
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
BODY = {"model": "tiny/chat", "messages": MESSAGES}
pytestmark = pytest.mark.asyncio


async def test_the_prompt_is_the_messages_rendered_by_the_chat_template() -> None:
    backend = FakeBackend()
    async with in_process(backend) as client:
        answer = (await client.post("/v1/chat/completions", json=BODY)).json()

    rendered = "<s><system>Be kind.\n<user>How\n?\n<assistant>"
    assert list(backend.requests[0].prompt) == tiny.tokenizer().encode(rendered, special=False)
    assert backend.requests[0].prompt[0] == tiny.BOS
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": ANSWER},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]


async def test_a_stream_begins_with_the_role_and_ends_with_the_finish_reason() -> None:
    async with in_process(FakeBackend()) as client:
        response = await client.post("/v1/chat/completions", json=BODY | {"stream": True, "n": 2})

    for index in (0, 1):
        deltas = [
            (choice["delta"], choice["finish_reason"])
            for chunk in events(response.text)
            for choice in chunk["choices"]  # type: ignore[attr-defined]
            if choice["index"] == index
        ]
        assert deltas[0] == ({"role": "assistant", "content": ""}, None)
        assert deltas[-1] == ({}, "stop")
        assert "".join(delta["content"] for delta, _ in deltas[:-1]) == ANSWER


async def test_an_answer_may_fill_the_context_unless_the_request_limits_it() -> None:
    backend = FakeBackend()
    async with in_process(backend) as client:
        await client.post("/v1/chat/completions", json=BODY)
        await client.post("/v1/chat/completions", json=BODY | {"max_tokens": 5})
        newer = {"max_tokens": 5, "max_completion_tokens": 4}
        await client.post("/v1/chat/completions", json=BODY | newer)

    num_prompt = len(backend.requests[0].prompt)
    assert [one.max_output_tokens for one in backend.requests] == [512 - num_prompt, 5, 4]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}] * 1_025}, "messages"),
        ({"messages": [MESSAGES[1], {"role": "system", "content": "late"}]}, "messages"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"logprobs": 2}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
        ({"tools": [{"type": "function"}], "tool_choice": "auto"}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"messages": [{"role": "tool", "content": None}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "messages"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
        ({"prompt": "Hello"}, "prompt"),
    ],
)
async def test_an_invalid_field_is_named(change: dict[str, object], param: str) -> None:
    backend = FakeBackend()
    async with in_process(backend) as client:
        response = await client.post("/v1/chat/completions", json=BODY | change)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert backend.requests == []


async def test_chat_is_refused_for_a_model_without_a_tokenizer() -> None:
    async with in_process(FakeBackend()) as client:
        response = await client.post("/v1/chat/completions", json=BODY | {"model": "ids-only"})

    assert response.json()["error"]["code"] == "text_not_supported"
