"""The journal of a controller: its events, their times and the resulting commands, as JSON lines.

The first line, the header, holds the settings of the controller. Each further line is one entry:
`{"t": now_s, "event": {"type": ..., fields}, "commands": [{"type": ..., fields}, ...]}`.
Values are objects with the names of their fields, tiers are written by name, and floats as Python
prints them, so that they read back to the same bits. A field marked `UNWRITTEN_DEFAULT` is omitted
while it has its default value.

A new controller with the same settings gives the same commands for the same events (`replay`). A
journal therefore serves as regression test, as recovery after a crash and as bug report.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from json.encoder import encode_basestring_ascii as _quoted
from math import isfinite
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from sllmcore import commands, events
from sllmcore.commands import Command
from sllmcore.controller import Controller
from sllmcore.errors import UsageError
from sllmcore.events import Event
from sllmcore.types import UNWRITTEN_DEFAULT

FORMAT = "sllm-journal"
VERSION = 1


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """An event, its time and the commands that it caused."""

    now_s: float
    event: Event
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first entry for which a replay gives other commands; `number` counts entries from 1."""

    number: int
    now_s: float
    event: Event
    written: tuple[Command, ...]
    replayed: tuple[Command, ...]


class JournalError(UsageError):
    """A journal cannot be read. The message names the line and the fault."""


def header_line(policy: object, seed: int) -> str:
    """Return the first line: the policy settings and the seed of the random numbers."""
    header = {"format": FORMAT, "version": VERSION, "policy": to_plain(policy), "seed": seed}
    return json.dumps(header, separators=(",", ":"))


def entry_line(now_s: float, event: Event, commands: Sequence[Command]) -> str:
    """Return one entry as a line, without the line feed.

    Raises:
        ValueError: A number is infinite or NaN.
    """
    ordered = ",".join([_tagged(command) for command in commands])
    return f'{{"t":{_text(now_s)},"event":{_tagged(event)},"commands":[{ordered}]}}'


# A journal names an event or command by its class, except for these commands: they keep the names
# that they had in the first version of the format.
_FIRST_NAMES: dict[type[object], str] = {
    commands.LaunchInstance: "Load",
    commands.StartRequest: "Infer",
    commands.StopInstance: "Unload",
    commands.EvictCopy: "Evict",
    commands.StopRequest: "Stop",
    commands.StartMigration: "Resume",
    commands.AbortMigration: "AbortResume",
    commands.RejectRequest: "Reject",
    commands.TimeOutRequest: "TimeOut",
}
JOURNAL_NAMES: dict[type[object], str] = {
    kind: _FIRST_NAMES.get(kind, kind.__name__)
    for union in (events.Event, commands.Command)
    for kind in get_args(union)
}


_PLAIN = frozenset({str, int, float, bool, type(None)})


@cache
def _field_names(kind: Any) -> tuple[str, ...]:
    if not is_dataclass(kind):
        raise TypeError(f"{kind.__name__} cannot be written to a journal")
    return tuple(field.name for field in fields(kind))


@cache
def _unwritten(kind: Any) -> dict[str, Any]:
    """Return the defaults that are omitted, by the field's name."""
    marked = [field for field in fields(kind) if field.metadata == UNWRITTEN_DEFAULT]
    return {field.name: _default(field) for field in marked}


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def to_plain(value: Any) -> Any:
    """Return a frozen value as dicts, lists and primitives of JSON."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    kind: Any = type(value)
    plain = {name: to_plain(getattr(value, name)) for name in _field_names(kind)}
    for name, default in _unwritten(kind).items():
        if getattr(value, name) == default:
            del plain[name]
    return plain


def _tagged(value: Event | Command) -> str:
    return _object(value, f'"type":"{JOURNAL_NAMES[type(value)]}"')


def _text(value: Any) -> str:
    """Return `json.dumps(to_plain(value))`, without the cost of the plain values.

    A leader writes a journal line before it sends any command, so this is on its critical path.
    """
    write = _TEXTS.get(type(value))
    if write is not None:
        return write(value)
    if isinstance(value, Enum):
        return _quoted(value.name)
    if isinstance(value, tuple | list):
        return f"[{','.join([_text(item) for item in value])}]"
    if isinstance(value, dict):
        items = [f"{_quoted(key)}:{_text(item)}" for key, item in value.items()]
        return f"{{{','.join(items)}}}"
    return _object(value)


def _object(value: Any, *members: str) -> str:
    written = list(members)
    kind: Any = type(value)
    for name, label, default in _members(kind):
        field = getattr(value, name)
        if default is _WRITTEN or field != default:
            written.append(label + _text(field))
    return f"{{{','.join(written)}}}"


@cache
def _members(kind: Any) -> tuple[tuple[str, str, Any], ...]:
    """Return the name, the label and the omitted default of each field."""
    names, unwritten = _field_names(kind), _unwritten(kind)
    return tuple((name, f"{_quoted(name)}:", unwritten.get(name, _WRITTEN)) for name in names)


def _number(value: float) -> str:
    if not isfinite(value):
        raise ValueError(f"a journal cannot hold {value}; numbers must be finite")
    return repr(value)


_WRITTEN = object()  # instead of a default: the field is always written
_TEXTS: dict[type, Callable[[Any], str]] = {
    str: _quoted,
    int: repr,
    float: _number,
    bool: lambda value: "true" if value else "false",
    type(None): lambda _: "null",
}


class JournalReader:
    """A reader of journal lines.

    Attributes:
        policy: The plain settings of the controller's policy.
        seed: The seed of the policy's random numbers.

    Raises:
        JournalError: The first line is not a journal header.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = enumerate(lines, start=1)
        number, first = next(self._lines, (1, ""))
        header = _parsed(first, number)
        if header.get("format") != FORMAT or header.get("version") != VERSION:
            raise JournalError(f"line 1 is not the header of a {FORMAT} version {VERSION}")
        if not isinstance(header.get("policy"), dict) or not isinstance(header.get("seed"), int):
            raise JournalError("line 1, the header, must have a policy and a seed")
        self.policy: dict[str, Any] = header["policy"]
        self.seed: int = header["seed"]
        self._readers = {name: _reader(kind) for kind, name in JOURNAL_NAMES.items()}

    def entries(self) -> Iterator[JournalEntry]:
        """Yield the entries, in order.

        Raises:
            JournalError: A line is not an entry.
        """
        for number, line in self._lines:
            yield self.entry(line, number)

    def entry(self, line: str, number: int) -> JournalEntry:
        """Return the entry of a line; `number` is its line number.

        Raises:
            JournalError: The line is not an entry.
        """
        plain = _parsed(line, number)
        try:
            event = self._read(plain["event"])
            commands = tuple(self._read(command) for command in plain["commands"])
            return JournalEntry(plain["t"], event, commands)
        except (KeyError, TypeError, ValueError) as error:
            raise JournalError(f"line {number} is not an entry: {error}") from error

    def _read(self, plain: dict[str, Any]) -> Any:
        values = dict(plain)
        return self._readers[values.pop("type")](values)


def _parsed(line: str, number: int) -> dict[str, Any]:
    try:
        plain = json.loads(line)
    except json.JSONDecodeError as error:
        raise JournalError(f"line {number} is not JSON: {error}") from error
    if not isinstance(plain, dict):
        raise JournalError(f"line {number} is not a JSON object")
    return plain


def from_plain(kind: Any, plain: Any) -> Any:
    """Return a value of type `kind` from its plain form, the inverse of `to_plain`."""
    return _reader(kind)(plain)


def _reader(kind: Any) -> Callable[[Any], Any]:
    """Return the function that reads a plain value as type `kind`.

    `kind` is a dataclass, enum, primitive, tuple of one type, mapping from names, or optional.
    """
    if get_origin(kind) in (UnionType, Union):
        inner = [arg for arg in get_args(kind) if arg is not type(None)]
        read = _reader(inner[0])
        return lambda plain: None if plain is None else read(plain)
    if get_origin(kind) is tuple:
        read_item = _reader(get_args(kind)[0])
        return lambda plain: tuple(read_item(item) for item in plain)
    if get_origin(kind) is not None:  # a mapping from names
        read_value = _reader(get_args(kind)[1])
        return lambda plain: {key: read_value(item) for key, item in plain.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda plain: kind[plain]
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        readers = {field.name: _reader(hints[field.name]) for field in fields(kind)}
        return lambda plain: kind(**{name: readers[name](item) for name, item in plain.items()})
    return lambda plain: plain


def replay(controller: Controller, entries: Iterable[JournalEntry]) -> Divergence | None:
    """Replay the events with a new controller; return the first difference, None if none."""
    for number, entry in enumerate(entries, start=1):
        replayed = tuple(controller.handle(entry.event, entry.now_s))
        if replayed != entry.commands:
            return Divergence(
                number=number,
                now_s=entry.now_s,
                event=entry.event,
                written=entry.commands,
                replayed=replayed,
            )
    return None
