"""A hash of the code that decides: a leader replays only a log that the same code wrote.

Words (docstrings, comments) are not part of it: a reworded docstring keeps its cluster's log.
"""

import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

from sllmcore.build import policy_packages
from sllmcore.code_text import code_text

# The packages that decide, and the packages of the objects in a leader's snapshot. The packages of
# a policy from outside count too.
_PACKAGES = ("sllmcore", "sllmreal.leader", "sllmreal.control")


@cache
def code_stamp() -> str:
    """Return a hash of the deciding code and of Python's version, on which pickles depend."""
    digest = hashlib.sha256(f"python {sys.version_info[:2]}".encode())
    for package in (*_PACKAGES, *policy_packages()):
        for name, file in _files(package):
            digest.update(f"\0{package}/{name}\0".encode())
            digest.update(code_text(file.read_text()).encode())
    return digest.hexdigest()


def _files(package: str) -> Iterator[tuple[str, Path]]:
    """Return the Python files of a package, or of a module that is one file, by relative path."""
    module = import_module(package)
    for place in getattr(module, "__path__", ()):
        for file in sorted(Path(place).rglob("*.py")):
            yield str(file.relative_to(place)), file
    if not hasattr(module, "__path__") and module.__file__ is not None:
        yield "", Path(module.__file__)
