"""Invalid request bodies, made from the schemas of valid ones.

A body follows its schema in most fields, so that it passes the first checks, and violates it in
some: wrong types, values at and beyond every bound, unknown and missing fields, invalid text, and
broken JSON.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from sllmreal.gateway.bodies import ChatRequest, CompletionRequest

SCHEMAS: Mapping[str, dict[str, Any]] = {
    "/v1/completions": CompletionRequest.model_json_schema(),
    "/v1/chat/completions": ChatRequest.model_json_schema(),
}
MODELS = ["tiny/chat", "tiny/chat", "tiny/chat", "ids-only", "secret", "absent", "../../etc/passwd"]
STRANGE: list[object] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**40, 0.0, -0.0, 1e-320, 1e308,
    "", "\0", "0", "null", "😀" * 50, "\u202e", "a" * 500, "{{ 7 * 7 }}", "</s>",
    "data: [DONE]\n\n",
    [], [[]], [None], [[[[]]]], {}, {"": ""}, {"type": "text"}, {"$ref": "#"}, [1] * 200,
]  # fmt: skip
# Text that Python's json cannot produce; it replaces a placeholder in a body.
RAW = ["NaN", "-Infinity", "1e999", '"\\ud800"', '"\\u0000"', "1" * 500, "01", "'a'", "[" * 500]
_KEYS = ["0", "7", "300", "99999", "-1", "", "a", "messages", "name", "0x1", "٣", "self"]
_PLACEHOLDER = "raw value here"


@dataclass(frozen=True, slots=True)
class Body:
    """A request: path and content of a POST."""

    path: str
    content: bytes


class BodyMaker:
    """Makes bodies that depend on `random` only."""

    def __init__(self, random: Random, strangeness: float = 0.03) -> None:
        self._random = random
        self._strangeness = strangeness
        self._definitions: Mapping[str, Any] = {}

    def body(self) -> Body:
        """Return the next body."""
        path = self._random.choice(sorted(SCHEMAS))
        schema = SCHEMAS[path]
        self._definitions = schema.get("$defs", {})
        value = self._value(schema)
        if isinstance(value, dict) and self._random.random() < 0.9:
            value["model"] = self._random.choice(MODELS)
        text = json.dumps(value, ensure_ascii=self._random.random() < 0.5)
        while _PLACEHOLDER in text:
            text = text.replace(f'"{_PLACEHOLDER}"', self._random.choice(RAW), 1)
        return Body(path, self._broken(text.encode("utf-8", "surrogatepass")))

    def _broken(self, content: bytes) -> bytes:
        """Change some bytes of 1 in 20 bodies, at random."""
        if self._random.random() > 0.05 or not content:
            return content
        index = self._random.randrange(len(content))
        changes: list[Callable[[], bytes]] = [
            lambda: content[:index],
            lambda: content[:index] + bytes([self._random.randrange(256)]) + content[index + 1 :],
            lambda: content[:index] + content[index // 2 :],
            lambda: b"\xef\xbb\xbf" + content,
            lambda: content.decode("utf-8", "replace").encode("utf-16"),
        ]
        return self._random.choice(changes)()

    def _value(self, schema: Mapping[str, Any]) -> object:
        if self._random.random() < self._strangeness:
            return self._random.choice([*STRANGE, _PLACEHOLDER])
        if "$ref" in schema:
            return self._value(self._definitions[schema["$ref"].rpartition("/")[2]])
        if "anyOf" in schema:
            return self._value(self._random.choice(schema["anyOf"]))
        if "const" in schema:
            return schema["const"]
        if "enum" in schema or "type" not in schema:  # without a type: any value
            return self._random.choice(schema.get("enum", STRANGE))
        kinds: dict[str, Callable[[Mapping[str, Any]], object]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
            "boolean": lambda _: self._random.random() < 0.5,
            "null": lambda _: None,
        }
        return kinds[schema["type"]](schema)

    def _object(self, schema: Mapping[str, Any]) -> dict[str, object]:
        required = schema.get("required", [])
        made = {}
        for name, field in schema.get("properties", {}).items():
            if self._random.random() < (0.98 if name in required else 0.25):
                made[name] = self._value(field)
        values = schema.get("additionalProperties", False)
        if values:  # an object with keys of the client's choice
            for _ in range(self._random.choice([0, 1, 3])):
                made[self._random.choice(_KEYS)] = self._value(values if values is not True else {})
        if self._random.random() < self._strangeness:
            extra = [
                "echo",
                "logprobs",
                "tools",
                "best_of",
                "__class__",
                "model_config",
                "",
                "x" * 999,
            ]
            made[self._random.choice(extra)] = self._random.choice(STRANGE)
        return made

    def _array(self, schema: Mapping[str, Any]) -> list[object]:
        max_items = schema.get("maxItems", 1 << 20)
        sizes = [schema.get("minItems", 0), 1, 2, 3, 5, min(max_items, 9)]
        size = self._random.choice(sizes)
        if self._random.random() < 0.001:
            size = min(max_items + 1, 2_000)
        return [self._value(schema["items"]) for _ in range(size)]

    def _string(self, schema: Mapping[str, Any]) -> str:
        max_chars = min(schema.get("maxLength", 1 << 20), 1 << 12)
        sizes = [schema.get("minLength", 0), 1, 3, 10, 80]
        size = max_chars + 1 if self._random.random() < 0.01 else self._random.choice(sizes)
        alphabet = self._random.choice(["a", "Hello world. ", "naïve 日本 😀", "\n\t{}<>%\0\x7f"])
        return "".join(self._random.choices(alphabet, k=size))

    def _integer(self, schema: Mapping[str, Any]) -> int:
        low, high = self._bounds(schema, 1)
        candidates = [low, high, low - 1, high + 1, 1, 2, 5, 16]
        likely = [number for number in (1, 2, 3, 5, 8) if low <= number <= high]
        if likely and self._random.random() < 0.8:
            return self._random.choice(likely)
        return self._random.choice(candidates)

    def _number(self, schema: Mapping[str, Any]) -> float:
        low, high = self._bounds(schema, 0)
        if self._random.random() < 0.85:
            return self._random.uniform(low, high)
        return self._random.choice([low, high, low - 1e-9, high + 1e-9, low - 1, high * 2])

    def _bounds(self, schema: Mapping[str, Any], step: int) -> tuple[int, int]:
        low = schema.get("minimum", schema.get("exclusiveMinimum", -step) + step)
        high = schema.get("maximum", schema.get("exclusiveMaximum", (1 << 40) + step) - step)
        return low, high


def costly_bodies(max_bytes: int) -> dict[str, Body]:
    """Return bodies of `max_bytes` that are costly to check, by a name of the reason."""
    text, chat = "/v1/completions", "/v1/chat/completions"

    def of(path: str, head: str, unit: str, tail: str) -> Body:
        room = max_bytes - len(head) - len(tail) - 16
        middle = unit * (room // len(unit))
        return Body(path, (head + re.sub(r",$", "", middle) + tail).encode())

    start = '{"model": "tiny/chat", '
    long = '"messages": [{"role": "user", "content": "'
    return {
        "one word": of(text, start + '"prompt": "', "a", '"}'),
        "many words": of(text, start + '"prompt": "', "Hello world ", '"}'),
        "escapes": of(text, start + '"prompt": "', "\\u65e5", '"}'),
        "token ids": of(text, start + '"prompt": [', "7,", "]}"),
        "wrong token ids": of(text, start + '"prompt": [', '"a",', ', 1]}'),
        "wrong at the end": of(text, start + '"prompt": [', "7,", ', null]}'),
        "many prompts": of(text, start + '"prompt": [', "[7],", "]}"),
        "many texts": of(text, start + '"prompt": [', '"a",', "]}"),
        "unknown fields": Body(text, _unknown_fields(max_bytes)),
        "unknown fields of a message": Body(
            chat,
            b'{"model": "tiny/chat", "messages": [' + _unknown_fields(max_bytes - 64) + b"]}",
        ),
        "deep lists": of(text, start + '"prompt": ', "[", ""),
        "deep objects": of(text, start + '"prompt": ', '{"a":', ""),
        "stop strings": of(text, start + '"prompt": "a", "stop": [', '"ab",', "]}"),
        "long message": of(chat, start + long, "Hello <b> ", '"}]}'),
        "many messages": of(
            chat, start + '"messages": [', '{"role":"user","content":"a"},', "]}"
        ),
        "many parts": of(
            chat,
            start + '"messages": [{"role": "user", "content": [',
            '{"type":"text","text":"a"},',
            "]}]}",
        ),
        "a number": of(text, start + '"prompt": "a", "seed": ', "9", "}"),
        "no JSON": Body(text, b"\xff" * max_bytes),
    }  # fmt: skip


def _unknown_fields(max_bytes: int) -> bytes:
    count = max_bytes // 12
    return ("{" + ",".join(f'"{number:07x}":0' for number in range(count)) + "}").encode()
