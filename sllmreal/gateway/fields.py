"""The common fields of both request bodies, and the parser of bodies.

Fields are limited here to valid values; `Limits` limits them further to what this gateway allows.
Unknown fields are refused, as OpenAI does. Fields of OpenAI's API that this gateway does not serve
are accepted with their default values only, because clients send defaults.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sllmreal.gateway.errors import bad_request, unsupported
from sllmreal.gateway.responses import UsageInStream

Neutral = tuple[object, ...]
Request = TypeVar("Request", bound="Strict")
# Parsing an opening bracket may create an object: a million of them take 0.4 s.
_MAX_BRACKETS = 1 << 16


class Strict(BaseModel):
    """A model without conversion between types, unknown fields and infinity."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    # Fields of the API that are not served, with the values that have no effect.
    unserved: ClassVar[Mapping[str, Neutral]] = {}

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
            elif name not in cls.unserved:
                shown = str(name)[:100]
                raise bad_request(
                    f"Unrecognized request argument supplied: {shown}; remove it.", shown
                )
            elif not any(value is neutral or value == neutral for neutral in cls.unserved[name]):
                raise unsupported(name)
        return known


class StreamOptions(Strict):
    """Options of a streamed response."""

    unserved: ClassVar[Mapping[str, Neutral]] = {"include_obfuscation": (None, False)}
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None  # vLLM's: usage so far in every event


StopString = Annotated[str, Field(min_length=1, max_length=4_096)]
StopStrings = Annotated[list[StopString], Field(fail_fast=True, max_length=64)]


class GenerationBody(Strict):
    """The fields that completions and chat share."""

    model: Annotated[str, Field(min_length=1, max_length=512)]
    max_tokens: Annotated[int, Field(ge=1, le=1 << 24)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1 << 24)] | None = None  # 0 and -1: all tokens
    n: Annotated[int, Field(ge=1, le=1 << 10)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: StopString | Annotated[list[StopString], Field(fail_fast=True, max_length=64)] | None = (
        None
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    ignore_eos: bool = False  # do not end at the model's stop tokens
    return_token_ids: bool = False  # in addition to the text

    @model_validator(mode="after")
    def _check_stream_options(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise bad_request(
                "stream_options requires stream to be true; set it or remove stream_options.",
                "stream_options",
            )
        return self

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


UNSERVED_BY_BOTH: Mapping[str, Neutral] = {
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "metadata": (None, {}),
    "service_tier": (None, "auto", "default"),
    "min_p": (None, 0),
    "repetition_penalty": (None, 1),
}


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
