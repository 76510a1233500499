"""Reading of plain data from YAML into frozen dataclasses; unknown and mistyped keys are
refused."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TypeVar

import msgspec

from sllmcore.errors import UsageError

Value = TypeVar("Value")


def read_config(kind: type[Value], plain: object) -> Value:
    """Return a dataclass, with all that is nested in it, from dicts, lists and primitives.

    Raises:
        UsageError: A value has the wrong type or is out of its range, a key is missing, or a key is
            unknown. The error names the path of the key.
    """
    try:
        value = msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise UsageError(_readable(str(error))) from error
    for problem in _unread(plain, msgspec.to_builtins(value), ""):
        raise UsageError(problem)
    return value


def _readable(message: str) -> str:
    """Put the path first: msgspec writes "problem - at `$.a.b`"."""
    problem, _, path = message.partition(" - at `$.")
    return f"{path.rstrip('`')}: {problem}" if path else problem


def _unread(plain: object, read: object, path: str) -> Iterator[str]:
    """Yield the keys of `plain` that were not read: msgspec ignores keys that a dataclass lacks."""
    if isinstance(plain, Mapping) and isinstance(read, Mapping):
        for key, value in plain.items():
            place = f"{path}.{key}" if path else str(key)
            if key in read:
                yield from _unread(value, read[key], place)
            else:
                near = get_close_matches(str(key), read, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(read)}"
                yield f"{place}: there is no such key{hint}"
    elif isinstance(plain, list) and isinstance(read, Sequence) and not isinstance(read, str):
        for index, (value, item) in enumerate(zip(plain, read, strict=True)):
            yield from _unread(value, item, f"{path}[{index}]")
