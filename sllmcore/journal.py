"""The journal: what a controller was told, when, and what it answered. One JSON object a line.

The first line says how the controller was made, each further line is one entry:
`{"t": now_s, "event": {"type": ..., fields}, "commands": [{"type": ..., fields}, ...]}`.
Values are written field by field under their own names, tiers by name; floats as Python writes
them, so that they read back to the same bits; a field marked `UNWRITTEN_DEFAULT` only where it has
another value than its default. Fed to a fresh controller made alike, the events
give the same commands: that is the regression test, the recovery after a crash, and the format of
a bug report.
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
class Entry:
    """One event and the commands it caused."""

    now_s: float
    event: Event
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a replay first differs: the number of the entry, what is written, what came."""

    number: int
    now_s: float
    event: Event
    written: tuple[Command, ...]
    replayed: tuple[Command, ...]


class JournalError(UsageError):
    """A journal cannot be read: it names the line and what is wrong with it."""


def header_line(policy: object, seed: int) -> str:
    """The first line: how to make the controller."""
    header = {"format": FORMAT, "version": VERSION, "policy": to_plain(policy), "seed": seed}
    return json.dumps(header, separators=(",", ":"))


def entry_line(now_s: float, event: Event, commands: Sequence[Command]) -> str:
    """One entry as a line, without the line feed."""
    ordered = ",".join([_tagged(command) for command in commands])
    return f'{{"t":{_text(now_s)},"event":{_tagged(event)},"commands":[{ordered}]}}'


# A journal names each event and command by its class, and these commands as the first version of
# the format did.
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
    """The defaults that are left out, by the field's name."""
    marked = [field for field in fields(kind) if field.metadata == UNWRITTEN_DEFAULT]
    return {field.name: _default(field) for field in marked}


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def to_plain(value: Any) -> Any:
    """A frozen value as what JSON can say."""
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
    """As `json.dumps` would write `to_plain(value)`, without a plain value for each of its parts:
    a control plane writes a line before anything happens."""
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
    """Name, label, and the default that is left out, of each field."""
    names, unwritten = _field_names(kind), _unwritten(kind)
    return tuple((name, f"{_quoted(name)}:", unwritten.get(name, _WRITTEN)) for name in names)


def _number(value: float) -> str:
    if not isfinite(value):
        raise ValueError(f"a journal has no {value}")
    return repr(value)


_WRITTEN = object()  # in place of a default: the field is always written
_TEXTS: dict[type, Callable[[Any], str]] = {
    str: _quoted,
    int: repr,
    float: _number,
    bool: lambda value: "true" if value else "false",
    type(None): lambda _: "null",
}


class JournalReader:
    """Reads lines back into entries.

    Attributes:
        policy: The plain settings of the controller's policy.
        seed: Of the policy's chance.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = enumerate(lines, start=1)
        number, first = next(self._lines, (1, ""))
        header = _parsed(first, number)
        if header.get("format") != FORMAT or header.get("version") != VERSION:
            raise JournalError(f"line 1 is not the header of a {FORMAT} version {VERSION}")
        if not isinstance(header.get("policy"), dict) or not isinstance(header.get("seed"), int):
            raise JournalError("line 1, the header, does not say the policy and the seed")
        self.policy: dict[str, Any] = header["policy"]
        self.seed: int = header["seed"]
        self._readers = {name: _reader(kind) for kind, name in JOURNAL_NAMES.items()}

    def entries(self) -> Iterator[Entry]:
        """The entries, in order.

        Raises:
            JournalError: A line is not an entry.
        """
        for number, line in self._lines:
            yield self.entry(line, number)

    def entry(self, line: str, number: int) -> Entry:
        """One line after the first.

        Raises:
            JournalError: It is not an entry.
        """
        plain = _parsed(line, number)
        try:
            event = self._read(plain["event"])
            commands = tuple(self._read(command) for command in plain["commands"])
            return Entry(plain["t"], event, commands)
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
    """The inverse of `to_plain` for a known type."""
    return _reader(kind)(plain)


def _reader(kind: Any) -> Callable[[Any], Any]:
    """How to read a dataclass, an enum, a tuple, a mapping from names, an optional, a primitive."""
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


def replay(controller: Controller, entries: Iterable[Entry]) -> Divergence | None:
    """Feed the events to a fresh controller; return the first difference, None if there is none."""
    for number, entry in enumerate(entries, start=1):
        replayed = tuple(controller.handle(entry.event, entry.now_s))
        if replayed != entry.commands:
            return Divergence(number, entry.now_s, entry.event, entry.commands, replayed)
    return None
