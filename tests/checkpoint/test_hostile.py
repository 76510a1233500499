"""Every hostile file is rejected: with a typed error, fast, and without taking memory."""

import resource
import time
from itertools import chain
from pathlib import Path

import pytest

from sllmreal.checkpoint import BadCheckpointError, StorageError, read_layout
from tests.checkpoint.hostile import native
from tests.checkpoint.hostile_others import others, safetensors
from tests.checkpoint.mutator import Hostile, NativeMutator

LIMIT_S = 0.100
LIMIT_BYTES = 64 << 20


def corpus(directory: Path) -> list[Hostile]:
    return list(chain(native(NativeMutator(directory)), safetensors(), others()))


def test_the_corpus_is_large_and_varied(tmp_path: Path) -> None:
    files = corpus(tmp_path)

    assert len(files) >= 150
    assert len({hostile.kind for hostile in files}) >= 20


def test_every_hostile_file_is_refused_with_a_typed_error_at_once(tmp_path: Path) -> None:
    wrong = []
    for number, hostile in enumerate(corpus(tmp_path)):
        path = tmp_path / f"{number}"
        hostile.build(path)
        rss_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began_s = time.thread_time()
        try:
            read_layout(path)
            wrong.append((hostile.kind, hostile.name, "accepted"))
        except (BadCheckpointError, StorageError):
            pass
        took_s = time.thread_time() - began_s
        grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss_before) << 10
        if took_s > LIMIT_S or grown_bytes > LIMIT_BYTES:
            wrong.append((hostile.kind, hostile.name, f"{took_s} s, {grown_bytes} bytes"))

    assert wrong == []


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_a_path_that_cannot_exist_is_a_typed_error(name: str) -> None:
    with pytest.raises((BadCheckpointError, StorageError)):
        read_layout(Path("/tmp") / name)
