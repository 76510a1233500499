"""A model's tokenizer from the files that come with it, without the library that made them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from tokenizers import Tokenizer as HuggingFace

from sllmcore.errors import UsageError
from sllmreal.gateway.backend import Message
from sllmreal.gateway.chat_template import ChatTemplate
from sllmreal.gateway.incremental import IncrementalDecoder

FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja")
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


class TextTokenizer:
    """`tokenizer.json` and what stands beside it: a chat template, the tokens that end answers."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """`files` are contents by name, those of FILES that there are. Raises UsageError."""
        if "tokenizer.json" not in files:
            raise UsageError("a model without tokenizer.json speaks token ids only")
        try:
            self._tokenizer = HuggingFace.from_str(files["tokenizer.json"].decode())
        except Exception as error:  # the library raises no narrower class
            raise UsageError(f"tokenizer.json cannot be read: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        config = _object(files, "tokenizer_config.json")
        special = _special_tokens(config)
        self._vocab_size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self._stop_tokens = self._end_of_answer(files, special.get("eos_token"))
        source = _template_source(files, config)
        self._template = None if source is None else ChatTemplate(source, special)

    @classmethod
    def from_directory(cls, directory: Path) -> "TextTokenizer":
        """From the files of FILES in a directory."""
        found = [directory / name for name in FILES if (directory / name).is_file()]
        return cls({path.name: path.read_bytes() for path in found})

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @property
    def stop_tokens(self) -> frozenset[int]:
        return self._stop_tokens

    @property
    def has_chat_template(self) -> bool:
        return self._template is not None

    def encode(self, text: str, *, special: bool) -> list[int]:
        # A batch of one: that entry point lets other threads run meanwhile.
        ids: list[int] = self._tokenizer.encode_batch_fast([text], add_special_tokens=special)[
            0
        ].ids
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def decoder(self, prompt: Sequence[int]) -> IncrementalDecoder:
        return IncrementalDecoder(self.decode, prompt)

    def chat_prompt(self, messages: Sequence[Message]) -> str:
        if self._template is None:
            raise UsageError("this model has no chat template: use /v1/completions")
        return self._template.render(messages)

    def _end_of_answer(self, files: Mapping[str, bytes], eos: str | None) -> frozenset[int]:
        declared = _object(files, "generation_config.json").get("eos_token_id")
        ids = declared if isinstance(declared, list) else [declared]
        if eos is not None:
            ids = [*ids, self._tokenizer.token_to_id(eos)]
        return frozenset(number for number in ids if isinstance(number, int))


def _object(files: Mapping[str, bytes], name: str) -> dict[str, object]:
    if name not in files:
        return {}
    try:
        return msgspec.json.decode(files[name], type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} cannot be read: {error}") from error


def _special_tokens(config: Mapping[str, object]) -> dict[str, str]:
    """Special tokens by their role; a token is its text, or an object that holds it."""
    tokens = {}
    for name in _SPECIAL:
        value = config.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            tokens[name] = value
    return tokens


def _template_source(files: Mapping[str, bytes], config: Mapping[str, object]) -> str | None:
    """The chat template: a file of its own, or in the configuration, alone or among named ones."""
    if "chat_template.jinja" in files:
        return files["chat_template.jinja"].decode(errors="replace")
    match config.get("chat_template"):
        case str(source):
            return source
        case list(named):
            sources = [one for one in named if isinstance(one, dict)]
            for one in sources:
                if one.get("name") == "default" and isinstance(one.get("template"), str):
                    return str(one["template"])
            return None
        case _:
            return None
