"""The import of policies, engines, stores and trace formats that do not come with the toolkit.

The only module of the core that imports by name, and so reads files: nothing below `build` may
import it (see the import contracts), so that what decides stays pure.

An entry point may be loaded whatever names it, a config included: the user has installed its
distribution. A reference `module:name` may be loaded only after `allow`, which commands call with
the references on their own command line: a config or a journal cannot run code.
"""

import re
from collections.abc import Iterable
from functools import reduce
from importlib import import_module

from sllmcore.errors import UsageError

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_EMBEDDED = re.compile(rf"(?<![\w.:/])(?:{_REFERENCE.pattern})(?![\w.:/])")


class Plugins:
    """A `PluginSource` of installed entry points and of allowed references."""

    def __init__(self) -> None:
        self._allowed: set[str] = set()
        self._packages: dict[str, set[str]] = {}  # by group

    def allow(self, names: Iterable[str]) -> None:
        """Let this process import those of the names that are references `module:name`."""
        self._allowed.update(name for name in names if is_reference(name))

    @property
    def allowed(self) -> tuple[str, ...]:
        """The references that may be imported, to be allowed in a child process as well."""
        return tuple(sorted(self._allowed))

    def packages(self, *groups: str) -> tuple[str, ...]:
        """Return the top-level packages that items of these groups have been loaded from."""
        return tuple(sorted(set().union(*(self._packages.get(group, ()) for group in groups))))

    def names(self, group: str) -> tuple[str, ...]:
        from importlib.metadata import entry_points  # takes 40 ms to import

        return tuple(sorted({point.name for point in entry_points(group=group)}))

    def load(self, group: str, name: str) -> object | None:
        if is_reference(name):
            self._check_allowed(name)
            return self._imported(group, name, name)
        from importlib.metadata import entry_points

        for point in entry_points(group=group, name=name):
            where = f"entry point {name} = {point.value} of {group}"
            return self._imported(group, point.value, where)
        return None

    def _check_allowed(self, reference: str) -> None:
        if reference not in self._allowed:
            raise UsageError(
                f"{reference} may not be imported: the command line does not name it, and a "
                "config or a journal alone cannot run code"
            )

    def _imported(self, group: str, reference: str, where: str) -> object:
        module, _, name = reference.partition(":")
        try:
            found: object = reduce(getattr, name.split("."), import_module(module))
        except Exception as error:  # the import runs foreign code
            reason = f"{type(error).__name__}: {error}"
            raise UsageError(f"{where} cannot be loaded: {reason}") from error
        self._packages.setdefault(group, set()).add(module.partition(".")[0])
        return found


def is_reference(name: str) -> bool:
    """Return whether a name is of the form `module:name`."""
    return _REFERENCE.fullmatch(name) is not None


def references_in(words: Iterable[str]) -> list[str]:
    """Return what looks like a reference in the words of a command line, `key=module:name` too."""
    return [found for word in words for found in _EMBEDDED.findall(word)]


PLUGINS = Plugins()  # of the process, as its imported modules are
