"""A fixture that writes small trace files."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

WriteTrace = Callable[..., Path]


@pytest.fixture
def write_trace(tmp_path: Path) -> WriteTrace:
    """Return a function that writes a file and returns its path."""

    def write(text: str, name: str = "trace.csv", zipped: bool = False) -> Path:
        path = tmp_path / name
        data = text.encode()
        path.write_bytes(gzip.compress(data) if zipped else data)
        return path

    return write
