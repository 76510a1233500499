"""A model's tokenizer, read from its files without the transformers library."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer as HuggingFace

from sllmcore.errors import UsageError
from sllmreal.gateway.backend import NEXT_TURN, ChatOptions, Message
from sllmreal.gateway.chat_template import ChatTemplate
from sllmreal.gateway.incremental_decoder import IncrementalDecoder
from sllmreal.gateway.model_defaults import (
    ModelDefaults,
    end_tokens,
    json_object,
    model_defaults,
    special_tokens,
)

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "config.json",
    "chat_template.jinja",
)


_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # sentencepiece's character for a space
_BYTE_ENTRY = re.compile("<0x[0-9A-F]{2}>")


def _gpt2_bytes() -> dict[str, int]:
    """Return the byte of each character in the entries of a byte-level vocabulary."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    others = {chr(256 + place): byte for place, byte in enumerate(hidden)}
    return {chr(byte): byte for byte in shown} | others


_BYTES = _gpt2_bytes()


class TextTokenizer:
    """Implements `Tokenizer` with `tokenizer.json`, its chat template and its stop tokens."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """Read `files`, the contents by name of the FILES that exist. Raises UsageError."""
        if "tokenizer.json" not in files:
            raise UsageError("tokenizer.json is missing; without it a model takes token ids only")
        try:
            self._tokenizer = HuggingFace.from_str(files["tokenizer.json"].decode())
        except Exception as error:  # the library raises no narrower class
            raise UsageError(f"tokenizer.json cannot be read: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        special = {role: texts[0] for role, texts in special_tokens(files).items()}
        self._added_tokens = self._tokenizer.get_added_tokens_decoder().keys()
        self._is_byte_level = "ByteLevel" in str(self._tokenizer.decoder)
        self._vocab_size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self._stop_tokens = end_tokens(files, self._tokenizer.token_to_id)
        self._defaults = model_defaults(files)
        source = _template_source(files, json_object(files, "tokenizer_config.json"))
        self._template = None if source is None else ChatTemplate(source, special)

    @classmethod
    def from_directory(cls, directory: Path) -> "TextTokenizer":
        """Read the FILES that exist in a directory. Raises UsageError."""
        found = [directory / name for name in FILES if (directory / name).is_file()]
        return cls({path.name: path.read_bytes() for path in found})

    @property
    def vocab_size(self) -> int:
        """Upper bound of token ids, exclusive."""
        return self._vocab_size

    @property
    def stop_tokens(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return self._stop_tokens

    @property
    def defaults(self) -> ModelDefaults:
        """The sampling defaults of generation_config.json."""
        return self._defaults

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Return token ids; `special` adds those that the model expects first, such as BOS."""
        # A batch of one, because that function releases the interpreter's lock.
        ids: list[int] = self._tokenizer.encode_batch_fast([text], add_special_tokens=special)[
            0
        ].ids
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text without special tokens."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def decoder(self, prompt: Sequence[int]) -> IncrementalDecoder:
        """Return a decoder of the output that follows this prompt."""
        return IncrementalDecoder(self.decode, prompt)

    def content(self, token: int) -> bytes:
        """Return the bytes of a token's text; none for an unused id."""
        entry = self._tokenizer.id_to_token(token) or ""
        if token in self._added_tokens:
            return entry.encode()
        if self._is_byte_level:
            return bytes(_BYTES[char] for char in entry if char in _BYTES)
        if _BYTE_ENTRY.fullmatch(entry):
            return bytes([int(entry[3:5], 16)])
        return entry.replace(_SPACE, " ").encode()

    def entries(self, tokens: Sequence[int]) -> list[str]:
        """Return the vocabulary's text of each token; an empty one for unused ids."""
        return [self._tokenizer.id_to_token(token) or "" for token in tokens]

    def chat_prompt(self, messages: Sequence[Message], options: ChatOptions = NEXT_TURN) -> str:
        """Return the prompt in the model's chat format. Raises UsageError."""
        if self._template is None:
            raise UsageError("this model has no chat template; use /v1/completions")
        return self._template.render(messages, options)


def _template_source(files: Mapping[str, bytes], config: Mapping[str, object]) -> str | None:
    """Return the template from its own file, else from the configuration; of several, `default`."""
    if "chat_template.jinja" in files:
        return files["chat_template.jinja"].decode(errors="replace")
    match config.get("chat_template"):
        case str(source):
            return source
        case list(named):
            for entry in named:
                match entry:
                    case {"name": "default", "template": str(source)}:
                        return source
            return None
        case _:
            return None
