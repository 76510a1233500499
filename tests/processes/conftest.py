"""Short temporary directories for homes, and a logger that is restored."""

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger of the package; the process's loggers are restored afterwards."""
    loggers = [logging.getLogger(name) for name in ("sllmreal", "__main__", "asyncio")]
    before = [(one, list(one.handlers), one.level, one.propagate) for one in loggers]
    yield logging.getLogger("sllmreal.leader.leader")
    for one, handlers, level, propagate in before:
        one.handlers[:], one.propagate = handlers, propagate
        one.setLevel(level)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory with a short path: sockets lie in a home, and their paths are limited."""
    with TemporaryDirectory(prefix="sllm-") as directory:
        yield Path(directory)
