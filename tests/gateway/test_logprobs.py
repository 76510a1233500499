"""Log probabilities in both routes, streamed and whole, in process."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from experiments.campaigns.gateway import tiny
from experiments.campaigns.gateway.clients import events, in_process
from experiments.campaigns.gateway.fakes import FakeBackend
from sllmreal.engine.logprobs import packed_entries
from sllmreal.engine.protocol import FinishReason
from sllmreal.gateway.backend import Generated, GenerationRequest

TEXT = "I am 🌶 well, thank you"
TOKENS = tuple(tiny.tokenizer().encode(TEXT, special=False))
CHAT: dict[str, Any] = {
    "model": "tiny/chat",
    "messages": [{"role": "user", "content": "Hello"}],
    "logprobs": True,
    "top_logprobs": 2,
}
COMPLETION: dict[str, Any] = {
    "model": "tiny/chat",
    "prompt": "Hello",
    "max_tokens": 99,
    "logprobs": 2,
}
pytestmark = pytest.mark.asyncio


def script(request: GenerationRequest) -> Iterable[Generated]:
    """Generate the forced tokens, TEXT and a stop token, one or two at a time, with records."""
    tokens = [*request.sampling.forced, *TOKENS, tiny.EOS][: request.max_output_tokens]
    for start in range(0, len(tokens), 2):
        part = tokens[start : start + 2]
        ended = start + 2 >= len(tokens)
        finish = FinishReason.STOP if part[-1] == tiny.EOS else FinishReason.LENGTH
        yield Generated(tuple(part), finish if ended else None, records(part))


def records(tokens: Sequence[int]) -> bytes:
    """Return records: a token's log probability is minus its id, those of the likeliest 0, -1."""
    return b"".join(packed_entries([one, 5, 6], [-one, 0.0, -1.0]) for one in tokens)


async def answers(path: str, body: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the whole choice, and the choices of the streamed events."""
    async with in_process(FakeBackend(script)) as client:
        whole = (await client.post(path, json=body)).json()
        streamed = await client.post(path, json=body | {"stream": True})
    return whole["choices"][0], [one["choices"][0] for one in events(streamed.text)]  # type: ignore[index]


async def test_chat_reports_tokens_with_bytes_and_the_likeliest_in_their_place() -> None:
    whole, streamed = await answers("/v1/chat/completions", CHAT)

    content = whole["logprobs"]["content"]
    assert b"".join(bytes(one["bytes"]) for one in content) == f"{TEXT}</s>".encode()
    assert [one["logprob"] for one in content] == [-token for token in (*TOKENS, tiny.EOS)]
    assert [one["logprob"] for one in content[0]["top_logprobs"]] == [0.0, -1.0]
    assert content[-1]["token"] == "</s>"
    parts = [one["logprobs"]["content"] for one in streamed if one["logprobs"] is not None]
    assert [one for part in parts for one in part] == content
    assert whole["message"]["content"] == TEXT


async def test_completions_report_names_values_and_offsets() -> None:
    whole, streamed = await answers("/v1/completions", COMPLETION)

    logprobs = whole["logprobs"]
    assert logprobs["token_logprobs"] == [-token for token in (*TOKENS, tiny.EOS)]
    assert logprobs["tokens"][0] == "I"
    assert any(name.startswith("bytes:\\x") for name in logprobs["tokens"])
    own = logprobs["tokens"][0]
    assert logprobs["top_logprobs"][0][own] == -TOKENS[0]
    assert len(logprobs["top_logprobs"][0]) == 3
    assert logprobs["text_offset"][:2] == [0, len(own)]
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        parts = [one["logprobs"][name] for one in streamed if one["logprobs"] is not None]
        assert [one for part in parts for one in part] == logprobs[name]


async def test_no_log_probability_is_reported_after_a_stop_string() -> None:
    whole, streamed = await answers("/v1/completions", COMPLETION | {"stop": "well"})

    num_tokens = len(tiny.tokenizer().encode("I am 🌶 well", special=False))
    assert whole["text"] == "I am 🌶 "
    assert len(whole["logprobs"]["tokens"]) == num_tokens
    parts = [one["logprobs"]["tokens"] for one in streamed if one["logprobs"] is not None]
    assert sum(map(len, parts)) == num_tokens


@pytest.mark.parametrize("max_tokens", [0, 1, 99])
async def test_echo_reports_the_prompt_first(max_tokens: int) -> None:
    prompt = tiny.tokenizer().encode("Hello 🌶", special=True)
    body = COMPLETION | {"prompt": prompt, "echo": True, "max_tokens": max_tokens}
    whole, streamed = await answers("/v1/completions", body | {"return_token_ids": True})

    output = (*TOKENS, tiny.EOS)[:max_tokens]
    expected = [None, *(-token for token in (*prompt[1:], *output))]
    assert whole["logprobs"]["token_logprobs"] == expected
    assert whole["logprobs"]["top_logprobs"][0] is None
    assert tuple(whole["token_ids"]) == output
    assert whole["text"] == "Hello 🌶" + tiny.tokenizer().decode(output)
    assert "".join(one["text"] for one in streamed) == whole["text"]
    assert whole["finish_reason"] == ("stop" if max_tokens == 99 else "length")


async def test_usage_counts_prompt_and_output_apart() -> None:
    async with in_process(FakeBackend(script)) as client:
        body = COMPLETION | {"prompt": [5, 6, 7, 8], "echo": True, "max_tokens": 3}
        usage = (await client.post("/v1/completions", json=body)).json()["usage"]

    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (4, 3)


async def test_a_prompt_of_one_token_needs_no_engine_for_its_echo() -> None:
    body = COMPLETION | {"prompt": [TOKENS[0]], "echo": True, "max_tokens": 0}
    whole, _ = await answers("/v1/completions", body)

    assert whole["logprobs"]["tokens"] == ["I"]
    assert whole["logprobs"]["token_logprobs"] == [None]


async def test_tokens_of_a_model_without_tokenizer_are_named_by_their_ids() -> None:
    body = COMPLETION | {"model": "ids-only", "prompt": [5], "max_tokens": 2}
    whole, _ = await answers("/v1/completions", body)

    assert whole["logprobs"]["tokens"] == [f"token_id:{token}" for token in TOKENS[:2]]


async def test_nothing_is_reported_without_the_option() -> None:
    for path, body in (("chat/completions", CHAT), ("completions", COMPLETION)):
        plain = {name: value for name, value in body.items() if "logprobs" not in name}
        whole, streamed = await answers(f"/v1/{path}", plain)
        assert whole["logprobs"] is None
        assert all(one["logprobs"] is None for one in streamed)
