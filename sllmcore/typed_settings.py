"""Settings of a registered item: scalars by name into the frozen dataclass that it registers.

A nested dataclass is set by dotted names, as in `splitting.max_parts`. Fields of other types than
bool, int, float, str, a Literal, or one of those or None, cannot be set.
"""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sllmcore.errors import UsageError

Setting = str | int | float | bool | None
S = TypeVar("S")

_FALSE_TRUE = {"false": False, "true": True}
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: "null",
}


def text_pairs(words: Iterable[str]) -> dict[str, str]:
    """Return the values of words `key=value` by key. Raises UsageError for another word."""
    pairs: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise UsageError(f"expected KEY=VALUE, got {word!r}")
        pairs[name] = text
    return pairs


def setting_names(kind: type[Any]) -> tuple[str, ...]:
    """Return the names that can be set, those of nested dataclasses dotted."""
    names: list[str] = []
    for name, hint in _hints(kind).items():
        inner = _nested(hint)
        if inner is not None:
            names += [f"{name}.{below}" for below in setting_names(inner)]
        elif _settable(hint):
            names.append(name)
    return tuple(names)


def parsed_setting(kind: type[Any], name: str, text: str, where: str) -> Setting:
    """Return the value that a text has as the setting of that name; "null" is None.

    Raises:
        UsageError: There is no such setting, or the text is not of its type.
    """
    hint = _hint_of(kind, name, where)
    for option in _options(hint):
        if option is NoneType and text == "null":
            return None
        if option is bool and text in _FALSE_TRUE:
            return _FALSE_TRUE[text]
        if option is str or (get_origin(option) is Literal and text in get_args(option)):
            return text
        if option in (int, float):
            try:
                number: int | float = option(text)
            except ValueError:
                continue
            return number
    raise UsageError(f"{where}: {name} must be {_expected(hint)}, got {text!r}")


def settings_of(
    kind: type[S],
    values: Mapping[str, Setting],
    where: str,
    base: Mapping[str, Any] | None = None,
) -> S:
    """Return the dataclass with those values, and otherwise with those of `base` or its defaults.

    Args:
        where: Owner of the settings, for errors.
        base: Values of whole fields, of their right types.

    Raises:
        UsageError: A name is unknown (the error lists the known ones), a value has the wrong type
            or is refused by the dataclass, or one without a default is missing.
    """
    given: dict[str, Any] = dict(base or {})
    below: dict[str, dict[str, Setting]] = {}
    for name, value in values.items():
        hint = _hint_of(kind, name, where)
        head, _, rest = name.partition(".")
        if rest:
            below.setdefault(head, {})[rest] = value
        else:
            given[head] = _checked(hint, value, name, where)
    for head, nested in below.items():
        inner = _nested(_hints(kind)[head])
        assert inner is not None, "a dotted name has a dataclass"
        given[head] = settings_of(inner, nested, f"{where}: {head}", field_values(given.get(head)))
    missing = [name for name in _required(kind) if name not in given]
    if missing:
        raise UsageError(f"{where}: needs a value for {', '.join(missing)}")
    try:
        return kind(**given)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def field_values(value: object) -> dict[str, Any]:
    """Return the fields of a dataclass by name; none of None."""
    if value is None:
        return {}
    kind: Any = type(value)
    return {field.name: getattr(value, field.name) for field in fields(kind)}


def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _required(kind: Any) -> list[str]:
    return [
        field.name
        for field in fields(kind)
        if field.default is MISSING and field.default_factory is MISSING
    ]


def _hint_of(kind: type[Any], name: str, where: str) -> Any:
    known = setting_names(kind)
    if name not in known:
        listed = f"known are {', '.join(known)}" if known else "there are none"
        raise UsageError(f"{where}: there is no setting {name!r}, {listed}")
    head, _, rest = name.partition(".")
    hint = _hints(kind)[head]
    inner = _nested(hint)
    return hint if inner is None else _hint_of(inner, rest, where)


def _options(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union; of another type, itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _nested(hint: Any) -> type[Any] | None:
    """Return the dataclass of a field that is one, or is one or None."""
    kinds = [option for option in _options(hint) if option is not NoneType]
    return kinds[0] if len(kinds) == 1 and is_dataclass(kinds[0]) else None  # type: ignore[return-value]


def _settable(hint: Any) -> bool:
    scalars = (bool, int, float, str, NoneType)
    return all(one in scalars or get_origin(one) is Literal for one in _options(hint))


def _checked(hint: Any, value: Setting, name: str, where: str) -> Setting:
    for option in _options(hint):
        if get_origin(option) is Literal:
            if value in get_args(option):
                return value
        elif type(value) is option:
            return value
        elif option is float and type(value) is int:
            return float(value)
    raise UsageError(f"{where}: {name} must be {_expected(hint)}, got {value!r}")


def _expected(hint: Any) -> str:
    words: list[str] = []
    for option in _options(hint):
        if get_origin(option) is Literal:
            words += [repr(value) for value in get_args(option)]
        else:
            words.append(_WORDS[option])
    return " or ".join(words)
