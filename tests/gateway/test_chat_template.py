"""Chat templates: what they may do, and what becomes of those that do more."""

import pytest

from experiments.campaigns.gateway import tiny
from sllmcore.errors import UsageError
from sllmreal.gateway.backend import Message
from sllmreal.gateway.chat_template import ChatTemplate
from sllmreal.gateway.tokens import TextTokenizer

HELLO = [Message("user", "Hello")]


def rendered(source: str, **special: str) -> str:
    return ChatTemplate(source, special).render(HELLO)


def test_blocks_leave_no_space_and_special_tokens_are_names() -> None:
    source = "{{ bos_token }}\n  {% for m in messages %}\n{{ m['content'] }}!\n  {% endfor %}\n"

    assert rendered(source, bos_token="<s>") == "<s>\nHello!\n"


def test_what_templates_are_written_against_is_there() -> None:
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
def test_a_template_that_refuses_or_escapes_is_the_callers_error(source: str) -> None:
    with pytest.raises(UsageError, match="refuses the messages"):
        rendered(source)


def test_a_template_that_does_not_compile_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="does not compile"):
        ChatTemplate("{% for %}", {})


def test_a_template_comes_from_its_own_file_before_the_configuration() -> None:
    files = tiny.files() | {"chat_template.jinja": b"own file"}

    assert TextTokenizer(files).chat_prompt(HELLO) == "own file"


def test_of_named_templates_the_default_is_taken() -> None:
    config = (
        b'{"chat_template": [{"name": "tool_use", "template": "no"},'
        b'{"name": "default", "template": "yes"}]}'
    )

    assert (
        TextTokenizer(tiny.files() | {"tokenizer_config.json": config}).chat_prompt(HELLO) == "yes"
    )


def test_without_a_template_there_is_no_chat() -> None:
    with pytest.raises(UsageError, match="no chat template"):
        tiny.tokenizer(template=False).chat_prompt(HELLO)


def test_every_declared_end_of_answer_ends_it() -> None:
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
def test_broken_files_are_the_callers_error(files: dict[str, bytes]) -> None:
    with pytest.raises(UsageError):
        TextTokenizer(files)
