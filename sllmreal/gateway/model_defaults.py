"""A model's end tokens and sampling defaults, read from the files beside its weights.

The order is that of transformers and vLLM:

    end tokens   `eos_token` of the tokenizer, and `eos_token_id` of generation_config.json;
                 where that file has none: of config.json, or of its text part
    eos_token    special_tokens_map.json, then tokenizer_config.json; the other way around if
                 tokenizer_config.json has `added_tokens_decoder`
    sampling     generation_config.json, as vLLM's `--generation-config auto`

Each end token may be one value or a list.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from sllmcore.errors import UsageError

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")
_CONFIG, _GENERATION_CONFIG = "config.json", "generation_config.json"
_TOKENIZER_CONFIG, _SPECIAL_TOKENS_MAP = "tokenizer_config.json", "special_tokens_map.json"
_TEXT_PARTS = ("decoder", "generator", "text_config")  # of config.json, in transformers' order


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """Defaults for fields that a request leaves out; None: the model has none."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None


def json_object(files: Mapping[str, bytes], name: str) -> dict[str, object]:
    """Return the content of a JSON file; an empty one if it is absent. Raises UsageError."""
    if name not in files:
        return {}
    try:
        return msgspec.json.decode(files[name], type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} cannot be read: {error}; replace the file") from error


def special_tokens(files: Mapping[str, bytes]) -> dict[str, tuple[str, ...]]:
    """Return the special tokens by role. Raises UsageError."""
    config = json_object(files, _TOKENIZER_CONFIG)
    legacy = json_object(files, _SPECIAL_TOKENS_MAP)
    first, second = (config, legacy) if "added_tokens_decoder" in config else (legacy, config)
    found = {name: _texts(first.get(name)) or _texts(second.get(name)) for name in SPECIAL_TOKENS}
    return {name: texts for name, texts in found.items() if texts}


def end_tokens(files: Mapping[str, bytes], token_id: Callable[[str], int | None]) -> frozenset[int]:
    """Return the tokens that end an answer. Raises UsageError.

    `token_id` returns the id of a token's text, or None for an unknown token.
    """
    texts = special_tokens(files).get("eos_token", ())
    ids = {number for number in map(token_id, texts) if number is not None}
    return frozenset(ids | _declared_ids(files))


def model_defaults(files: Mapping[str, bytes]) -> ModelDefaults:
    """Return the sampling defaults of generation_config.json. Raises UsageError."""
    config = json_object(files, _GENERATION_CONFIG)

    def number(name: str, valid: Callable[[float], bool], rule: str) -> float | None:
        value = config.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not valid(value):
            raise _invalid(_GENERATION_CONFIG, name, value, rule)
        return value

    def whole(name: str, least: int) -> int | None:
        rule = f"a whole number of at least {least}"
        value = number(name, lambda got: got >= least and got == int(got), rule)
        return None if value is None else int(value)

    top_k = whole("top_k", -1)
    return ModelDefaults(
        temperature=number("temperature", lambda got: 0 <= got <= 100, "in [0, 100]"),
        top_p=number("top_p", lambda got: 0 < got <= 1, "in (0, 1]"),
        top_k=top_k if top_k is not None and top_k > 0 else None,  # 0 and -1: all tokens
        min_p=number("min_p", lambda got: 0 <= got <= 1, "in [0, 1]"),
        repetition_penalty=number("repetition_penalty", lambda got: got > 0, "above 0"),
        max_tokens=whole("max_new_tokens", 1),
    )


def _declared_ids(files: Mapping[str, bytes]) -> frozenset[int]:
    """Return the `eos_token_id` of the first configuration that has one."""
    config = json_object(files, _CONFIG)
    parts = [part for name in _TEXT_PARTS if isinstance(part := config.get(name), dict)]
    sources = [(_GENERATION_CONFIG, json_object(files, _GENERATION_CONFIG))]
    sources += [(_CONFIG, part) for part in (config, *parts)]
    for name, source in sources:
        declared = source.get("eos_token_id")
        if declared is None:
            continue
        given: list[object] = declared if isinstance(declared, list) else [declared]
        ids = [one for one in given if isinstance(one, int) and not isinstance(one, bool)]
        if len(ids) < len(given) or min(ids, default=0) < 0:
            rule = "a token id or a list of token ids"
            raise _invalid(name, "eos_token_id", declared, rule)
        if ids:
            return frozenset(ids)
    return frozenset()


def _texts(value: object) -> tuple[str, ...]:
    """Return tokens that a file has as text, as an object with `content`, or as a list of those."""
    match value:
        case str() if value:
            return (value,)
        case {"content": str(text)}:
            return (text,)
        case list():
            return tuple(text for one in value for text in _texts(one))
        case _:
            return ()


def _invalid(file: str, name: str, value: object, rule: str) -> UsageError:
    return UsageError(f"{file}: {name} must be {rule}, got {str(value)[:100]!r}; correct the file")
