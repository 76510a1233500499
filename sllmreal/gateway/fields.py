"""What both kinds of request have in common, and how a body becomes a checked value.

Every field is bounded here by what can be meant at all; `Limits` bounds further by what this
gateway grants. Unknown fields are refused as OpenAI does; fields of the API that this gateway does
not serve are accepted where they ask for nothing, because clients send their defaults.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sllmreal.gateway.answers import UsageTold
from sllmreal.gateway.errors import bad_request, unsupported

Neutral = tuple[object, ...]
Request = TypeVar("Request", bound="Strict")
# Each may be an object to make, which costs far more than its byte: 0.4 s for a million of them.
_MAX_BRACKETS = 1 << 16


class Strict(BaseModel):
    """No conversion between types, no unknown field, no infinity."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    # Fields of the API that are not served, with the values that ask for nothing.
    unserved: ClassVar[Mapping[str, Neutral]] = {}

    @model_validator(mode="before")
    @classmethod
    def _served(cls, data: object) -> object:
        """Refuse at the first wrong field: a body can hold a hundred thousand of them."""
        if not isinstance(data, dict):
            return data
        known = {}
        for name, value in data.items():
            if name in cls.model_fields:
                known[name] = value
            elif name not in cls.unserved:
                shown = str(name)[:100]
                raise bad_request(f"Unrecognized request argument supplied: {shown}", shown)
            elif not any(value is one or value == one for one in cls.unserved[name]):
                raise unsupported(name)
        return known


class StreamOptions(Strict):
    """Options of a streamed answer."""

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
    ignore_eos: bool = False  # generate on past the model's stop tokens
    return_token_ids: bool = False  # beside the text

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise bad_request("stream_options needs stream to be true", "stream_options")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings, none twice."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(dict.fromkeys(given))

    @property
    def told_usage(self) -> UsageTold:
        """What events of a stream say of usage."""
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


def parsed(kind: type[Request], raw: bytes) -> Request:
    """The body as a checked value. Raises ApiError (400) naming the first field that is wrong."""
    if raw.count(b"[") + raw.count(b"{") > _MAX_BRACKETS:
        raise bad_request(f"The body may have {_MAX_BRACKETS} opening brackets.")
    try:
        return kind.model_validate_json(raw)
    except ValidationError as errors:
        first = errors.errors(include_url=False, include_context=False, include_input=False)[0]
        place = [str(step)[:100] for step in first["loc"]]
        if first["type"] == "json_invalid":
            raise bad_request("We could not parse the JSON body of your request.") from None
        message = f"{'.'.join(place[:1]) or 'the body'}: {first['msg'][:300]}"
        raise bad_request(message, place[0] if place else None) from None
