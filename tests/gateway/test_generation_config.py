"""End tokens and sampling defaults from a model's files."""

import json

import pytest

from experiments.campaigns.gateway import tiny
from experiments.campaigns.gateway.clients import in_process
from experiments.campaigns.gateway.fakes import FakeBackend
from sllmcore.errors import UsageError
from sllmreal.gateway.text_tokenizer import TextTokenizer

BARE = {"chat_template": tiny.TEMPLATE}


def tokenizer(**files: dict[str, object]) -> TextTokenizer:
    """Return the tiny tokenizer with files named by argument; `tokenizer_config` has no eos."""
    contents = {"tokenizer_config": BARE} | files
    named = {f"{name}.json": json.dumps(value).encode() for name, value in contents.items()}
    return TextTokenizer(tiny.files() | named)


@pytest.mark.parametrize("ids", [7, [7], [7, 9]])
@pytest.mark.parametrize("name", ["generation_config", "config"])
def test_an_end_token_may_stand_in_either_configuration(name: str, ids: object) -> None:
    expected = set(ids) if isinstance(ids, list) else {ids}

    assert tokenizer(**{name: {"eos_token_id": ids}}).stop_tokens == expected


def test_generation_config_has_precedence_over_config() -> None:
    files: dict[str, dict[str, object]] = {"config": {"eos_token_id": 9}}

    assert tokenizer(generation_config={"eos_token_id": 7}, **files).stop_tokens == {7}
    assert tokenizer(generation_config={"eos_token_id": None}, **files).stop_tokens == {9}
    assert tokenizer(generation_config={}, **files).stop_tokens == {9}


def test_a_configuration_may_hold_the_end_token_of_its_text_part() -> None:
    assert tokenizer(config={"text_config": {"eos_token_id": [8]}}).stop_tokens == {8}


@pytest.mark.parametrize("token", ["</s>", {"content": "</s>"}, ["</s>"], [{"content": "</s>"}]])
@pytest.mark.parametrize("name", ["tokenizer_config", "special_tokens_map"])
def test_an_end_token_may_stand_in_either_file_of_the_tokenizer(name: str, token: object) -> None:
    assert tokenizer(**{name: {"eos_token": token}}).stop_tokens == {tiny.EOS}


def test_the_special_tokens_map_overrides_a_tokenizer_configuration_without_added_tokens() -> None:
    special: dict[str, object] = {"eos_token": "<s>"}
    config: dict[str, object] = {"eos_token": "</s>"}

    legacy = tokenizer(tokenizer_config=config, special_tokens_map=special)
    current = tokenizer(
        tokenizer_config=config | {"added_tokens_decoder": {}}, special_tokens_map=special
    )

    assert legacy.stop_tokens == {tiny.BOS}
    assert current.stop_tokens == {tiny.EOS}


def test_the_tokens_of_the_tokenizer_and_of_the_configuration_both_end_an_answer() -> None:
    both = tokenizer(tokenizer_config={"eos_token": "</s>"}, config={"eos_token_id": [40]})

    assert both.stop_tokens == {tiny.EOS, 40}


def test_values_that_are_no_token_ids_are_refused_by_file_and_rule() -> None:
    for bad in ("x", [True], -1, [2.5]):
        with pytest.raises(UsageError, match=r"config.json.*eos_token_id"):
            tokenizer(config={"eos_token_id": bad})


def test_the_sampling_of_the_generation_config_is_the_default() -> None:
    config: dict[str, object] = {
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.9,
        "top_k": 20,
        "min_p": None,
        "max_new_tokens": 40,
    }

    defaults = tokenizer(generation_config=config).defaults

    assert (defaults.temperature, defaults.top_p, defaults.top_k) == (0.6, 0.9, 20)
    assert (defaults.min_p, defaults.repetition_penalty, defaults.max_tokens) == (None, None, 40)


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -1), ("top_p", 0), ("top_p", "x"), ("top_k", 0.5), ("max_new_tokens", 0)],
)
def test_an_invalid_default_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=rf"generation_config.json.*{name}"):
        tokenizer(generation_config={name: value})


@pytest.mark.asyncio
async def test_fields_of_a_request_override_the_model_defaults() -> None:
    config: dict[str, object] = {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "max_new_tokens": 3}
    backend = FakeBackend()
    backend.text = tokenizer(
        tokenizer_config=json.loads(tiny.files()["tokenizer_config.json"]), generation_config=config
    )
    async with in_process(backend) as client:
        body = {"model": "tiny/chat", "prompt": "Hello", "seed": 1}
        await client.post("/v1/completions", json=body)
        own = {"temperature": 0, "top_p": 0.5, "top_k": -1, "max_tokens": 5}
        await client.post("/v1/completions", json=body | own)
        chat = {"model": "tiny/chat", "messages": [{"role": "user", "content": "Hello"}]}
        await client.post("/v1/chat/completions", json=chat)

    sampled = [
        (one.sampling.temperature, one.sampling.top_p, one.sampling.top_k, one.max_output_tokens)
        for one in backend.requests
    ]
    assert sampled == [(0.6, 0.9, 20, 3), (0.0, 0.5, None, 5), (0.6, 0.9, 20, 3)]
