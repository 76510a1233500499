"""Which code decides: what another version wrote down half-done, this one cannot go on with."""

import hashlib
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

# What decides and what it remembers of peers; tests and drivers beside it do not count.
_PACKAGES = ("sllmcore", "sllmreal.cluster", "sllmreal.protocol")


@cache
def code_stamp() -> str:
    """A hash of the sources that decide, and of Python's version, whose pickles they use."""
    digest = hashlib.sha256(f"python {sys.version_info[:2]}".encode())
    for package in _PACKAGES:
        for place in import_module(package).__path__:
            for file in sorted(Path(place).rglob("*.py")):
                digest.update(f"\0{package}/{file.relative_to(place)}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()
