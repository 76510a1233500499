"""A hash of the code that decides: a leader replays only a log that the same code wrote.

Words (docstrings, comments) are not part of it: a reworded docstring keeps its cluster's log.
"""

import hashlib
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

from sllmcore.code_text import code_text

# The packages that decide, and the packages of the objects in a leader's snapshot.
_PACKAGES = ("sllmcore", "sllmreal.leader", "sllmreal.control")


@cache
def code_stamp() -> str:
    """Return a hash of the deciding code and of Python's version, on which pickles depend."""
    digest = hashlib.sha256(f"python {sys.version_info[:2]}".encode())
    for package in _PACKAGES:
        for place in import_module(package).__path__:
            for file in sorted(Path(place).rglob("*.py")):
                digest.update(f"\0{package}/{file.relative_to(place)}\0".encode())
                digest.update(code_text(file.read_text()).encode())
    return digest.hexdigest()
