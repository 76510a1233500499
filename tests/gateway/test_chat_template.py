"""Chat templates: the names that they may use, refusals, and escapes from the sandbox."""

import pytest

from experiments.campaigns.gateway import tiny
from sllmcore.errors import UsageError
from sllmreal.gateway.backend import Message
from sllmreal.gateway.chat_template import ChatTemplate
from sllmreal.gateway.text_tokenizer import TextTokenizer

HELLO = [Message("user", "Hello")]


def rendered(source: str, **special: str) -> str:
    return ChatTemplate(source, special).render(HELLO)


def test_blocks_leave_no_space_and_special_tokens_are_variables() -> None:
    source = "{{ bos_token }}\n  {% for m in messages %}\n{{ m['content'] }}!\n  {% endfor %}\n"

    assert rendered(source, bos_token="<s>") == "<s>\nHello!\n"


def test_the_names_that_templates_use_are_defined() -> None:
    source = (
        "{% generation %}{{ messages | tojson }}{% endgeneration %}"
        "{% for m in messages %}{% break %}{% endfor %}{{ strftime_now('%Y') | length }}"
    )

    assert rendered(source) == '[{"role": "user", "content": "Hello"}]4'


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages[5].content.missing }}",
        "{{ 1 / 0 }}",
        "{{ 'a' + 1 }}",
        "{% for i in range(1000000) %}{% endfor %}",
        "{{ self.__init__.__globals__ }}",
    ],
)
def test_a_template_that_refuses_or_escapes_raises_a_usage_error(source: str) -> None:
    with pytest.raises(UsageError, match="refuses the messages"):
        rendered(source)


def test_a_template_that_does_not_compile_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="does not compile"):
        ChatTemplate("{% for %}", {})


def test_a_template_file_has_precedence_over_the_configuration() -> None:
    files = tiny.files() | {"chat_template.jinja": b"own file"}

    assert TextTokenizer(files).chat_prompt(HELLO) == "own file"


def test_the_default_of_several_named_templates_is_used() -> None:
    config = (
        b'{"chat_template": [{"name": "tool_use", "template": "no"},'
        b'{"name": "default", "template": "yes"}]}'
    )

    assert (
        TextTokenizer(tiny.files() | {"tokenizer_config.json": config}).chat_prompt(HELLO) == "yes"
    )


def test_chat_without_a_template_is_refused() -> None:
    with pytest.raises(UsageError, match="no chat template"):
        tiny.tokenizer(template=False).chat_prompt(HELLO)


def test_every_declared_stop_token_ends_an_answer() -> None:
    files = tiny.files() | {"generation_config.json": b'{"eos_token_id": [7, 9]}'}

    assert TextTokenizer(files).stop_tokens == {tiny.EOS, 7, 9}


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"tokenizer.json": b"{}"},
        {"tokenizer.json": b"\xff"},
        tiny.files() | {"tokenizer_config.json": b"[]"},
        tiny.files() | {"generation_config.json": b"{"},
    ],
)
def test_invalid_files_raise_a_usage_error(files: dict[str, bytes]) -> None:
    with pytest.raises(UsageError):
        TextTokenizer(files)
