"""The common fields of both request bodies, and the parser of bodies.

Fields are limited here to valid values; `Limits` limits them further to what this gateway allows.
Unknown fields are refused, as OpenAI does; `unserved` lists the known fields that are not served.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sllmreal.gateway.errors import bad_request, unsupported
from sllmreal.gateway.responses import UsageInStream
from sllmreal.gateway.unserved import INFORMING, Unserved

Request = TypeVar("Request", bound="Strict")
# Parsing an opening bracket may create an object: a million of them take 0.4 s.
_MAX_BRACKETS = 1 << 16


class Strict(BaseModel):
    """A model without conversion between types, unknown fields and infinity."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    unserved: ClassVar[Mapping[str, Unserved]] = {}
    informing: ClassVar[frozenset[str]] = frozenset()  # accepted with any value, without effect

    @model_validator(mode="before")
    @classmethod
    def _served(cls, data: object) -> object:
        """Refuse the first invalid field; a body can have a hundred thousand of them."""
        if not isinstance(data, dict):
            return data
        known = {}
        for name, value in data.items():
            if name in cls.model_fields:
                known[name] = value
            elif name in cls.informing:
                continue
            elif name not in cls.unserved:
                shown = str(name)[:100]
                raise bad_request(
                    f"Unrecognized request argument supplied: {shown}; remove it.", shown
                )
            elif not cls.unserved[name].accepts(value):
                raise unsupported(name, cls.unserved[name].reason)
        return known


class StreamOptions(Strict):
    """Options of a streamed response."""

    unserved: ClassVar[Mapping[str, Unserved]] = {
        "include_obfuscation": Unserved("events are not padded", (False,))
    }
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None  # vLLM's: usage so far in every event


StopString = Annotated[str, Field(min_length=1, max_length=4_096)]
StopStrings = Annotated[list[StopString], Field(fail_fast=True)]
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
# JSON has keys of text only.
Biases = Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1_024)]


class GenerationBody(Strict):
    """The fields that completions and chat share."""

    model: Annotated[str, Field(min_length=1, max_length=512)]
    informing: ClassVar[frozenset[str]] = INFORMING
    max_tokens: Annotated[int, Field(ge=0, le=1 << 24)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=1 << 24)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1 << 24)] | None = None  # 0 and -1: all tokens
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=100)] | None = None
    logit_bias: Biases | None = None
    n: Annotated[int, Field(ge=1, le=1 << 10)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: StopString | StopStrings | None = None
    stop_token_ids: Annotated[list[TokenId], Field(fail_fast=True, max_length=4_096)] | None = None
    include_stop_str_in_output: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    add_special_tokens: bool | None = None  # None: as the route does
    ignore_eos: bool | None = None  # do not end at the model's stop tokens
    return_token_ids: bool | None = None  # in addition to the text

    @model_validator(mode="after")
    def _check_stream_options(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise bad_request(
                "stream_options requires stream to be true; set it or remove stream_options.",
                "stream_options",
            )
        return self

    @model_validator(mode="after")
    def _check_output_limit(self) -> Self:
        if self.max_tokens == 0 and not self.may_generate_nothing:
            raise bad_request("max_tokens is 0 and must be at least 1; raise it.", "max_tokens")
        if self.min_tokens and self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise bad_request(
                f"min_tokens is {self.min_tokens} and may be max_tokens, {self.max_tokens}, at "
                "most; lower it.",
                "min_tokens",
            )
        return self

    @property
    def may_generate_nothing(self) -> bool:
        """True if an answer without output is of use."""
        return False

    @property
    def num_logprobs(self) -> int | None:
        """The number of likeliest tokens to report for each output token; None: no report."""
        raise NotImplementedError

    @property
    def biases(self) -> tuple[tuple[int, float], ...]:
        """The tokens and their biases. Raises ApiError (400) for a key that is no token id."""
        for token in self.logit_bias or {}:
            if not (token.isascii() and token.isdecimal() and len(token) < 10):
                message = f"logit_bias has the key {token[:50]!r}; its keys must be token ids."
                raise bad_request(message, "logit_bias")
        return tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items())

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings, without duplicates."""
        strings = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(dict.fromkeys(strings))

    @property
    def usage_in_stream(self) -> UsageInStream:
        """The events of a stream that include usage."""
        options = self.stream_options
        if options is None or not options.include_usage:
            return "never"
        return "always" if options.continuous_usage_stats else "at the end"


def parsed_body(kind: type[Request], raw: bytes) -> Request:
    """Return the body as a value of `kind`. Raises ApiError (400) about the first invalid field."""
    num_brackets = raw.count(b"[") + raw.count(b"{")
    if num_brackets > _MAX_BRACKETS:
        raise bad_request(
            f"The body has {num_brackets} opening brackets and may have {_MAX_BRACKETS}; "
            "split the request."
        )
    try:
        return kind.model_validate_json(raw)
    except ValidationError as errors:
        first = errors.errors(include_url=False, include_context=False, include_input=False)[0]
        path = [str(step)[:100] for step in first["loc"]]
        if first["type"] == "json_invalid":
            message = f"We could not parse the JSON body of your request: {first['msg'][:300]}"
            raise bad_request(message) from None
        message = f"{path[0] if path else 'the body'}: {first['msg'][:300]}"
        raise bad_request(message, path[0] if path else None) from None
