"""Chat templates: the Jinja template that comes with a model's tokenizer.

The deployer supplies the template, any client the messages. A template runs in Jinja's immutable
sandbox. It has the names that templates of the field use: `messages`, `add_generation_prompt`, the
special tokens, `tojson`, `raise_exception`, `strftime_now`, loop controls, the `generation` block.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sllmcore.errors import UsageError
from sllmreal.gateway.backend import NEXT_TURN, ChatOptions, Message

MAX_TEMPLATE_CHARS = 1 << 20
# The end of a message to continue. Its last space shows whether the template strips messages.
_END_MARK = "<END OF THE MESSAGE TO CONTINUE> "
# Errors that a template may raise for messages that its author did not expect.
_REFUSALS = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
)


class _Generation(Extension):
    """`{% generation %}`, which marks the assistant's text for training. Renders its body."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """A compiled template. Raises UsageError if it does not compile."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        if len(source) > MAX_TEMPLATE_CHARS:
            raise UsageError(
                f"a chat template may have {MAX_TEMPLATE_CHARS} characters, got {len(source)}"
            )
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _strftime_now
        self._special_tokens = dict(special_tokens)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise UsageError(f"the chat template does not compile: {error}") from error

    def render(self, messages: Sequence[Message], options: ChatOptions = NEXT_TURN) -> str:
        """Return the prompt.

        Raises UsageError if the template refuses the messages, or drops the message to continue.
        """
        turns = [{"role": turn.role, "content": turn.content, **turn.fields} for turn in messages]
        if options.continues_last:
            turns[-1]["content"] = f"{messages[-1].content}{_END_MARK}"
        variables = self._special_tokens | dict(options.variables)
        try:
            text = self._template.render(
                variables, messages=turns, add_generation_prompt=options.begins_turn
            )
        except _REFUSALS as error:
            reason = str(error)[:300]
            raise UsageError(f"the model's chat template refuses the messages: {reason}") from error
        return _until_mark(text) if options.continues_last else text


def _until_mark(text: str) -> str:
    """Return the text before the mark; without spaces at its end if the template cut the mark's."""
    place = text.rfind(_END_MARK.strip())
    if place < 0:
        raise UsageError(
            "the model's chat template does not show the last message as it is, so that it cannot "
            "be continued; set continue_final_message to false"
        )
    return text[:place] if text.startswith(_END_MARK, place) else text[:place].rstrip()


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now(UTC).strftime(pattern)
