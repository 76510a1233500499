"""A reader finds the whole old or the whole new checkpoint after any fault at any instant."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.campaigns.checkpoint.kills import LOADING, OPTIONS, generation, kill_writers
from sllmcore.errors import SllmError, UsageError
from sllmreal.checkpoint import StorageError, save_checkpoint
from sllmreal.checkpoint import staging as staging_module
from sllmreal.loader import load_checkpoint
from tests.checkpoint import syscalls
from tests.checkpoint.writers import WRITERS, Saving

CALLS = ("open", "write", "pwrite", "fsync", "fdatasync", "ftruncate", "mkdir", "rename", "close")


class FaultyCalls:
    """A counter of a writer's system calls that makes the n-th one fail."""

    def __init__(self, fail_at: int | None, fault: Callable[[Any], object]) -> None:
        self.count = 0
        self._fail_at = fail_at
        self._fault = fault

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count - 1 == self._fail_at:
                return self._fault(lambda: call(*arguments, **options))
            return call(*arguments, **options)

        return counted


def _written(path: Path, number: int, calls: FaultyCalls) -> BaseException | None:
    """Replace the checkpoint at `path` under faulty calls; return the typed error, if any."""
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            if name != "close":
                patch.setattr(os, name, calls.wrap(getattr(os, name)))
        patch.setattr(staging_module, "_exchange", calls.wrap(staging_module._exchange))
        try:
            save_checkpoint(generation(number), path, OPTIONS)
        except SllmError as error:
            return error
    return None


def _whole_generation(path: Path) -> int:
    loaded = load_checkpoint(path, options=LOADING)
    values = {int(value) for tensor in loaded.values() for value in tensor.flatten().tolist()}
    assert len(values) == 1, f"generations mixed: {values}"
    return values.pop()


def _error(number: int) -> Callable[[Any], object]:
    def raising(call: Any) -> object:
        raise OSError(number, os.strerror(number))

    return raising


@pytest.mark.parametrize("number", [5, 28], ids=["EIO", "ENOSPC"])
def test_a_fault_at_any_system_call_leaves_old_or_new(tmp_path: Path, number: int) -> None:
    path = tmp_path / "model"
    save_checkpoint(generation(0), path, OPTIONS)
    probe = FaultyCalls(None, _error(number))
    assert _written(path, 1, probe) is None
    current = 1

    for fail_at in range(probe.count):
        error = _written(path, current + 1, FaultyCalls(fail_at, _error(number)))
        found = _whole_generation(path)
        if error is None:
            assert found == current + 1, f"call {fail_at}: acknowledged and lost"
        assert found in (current, current + 1)
        current = found

    assert probe.count > 20


def test_a_failed_fsync_is_never_followed_by_publication(tmp_path: Path) -> None:
    path = tmp_path / "model"
    save_checkpoint(generation(0), path, OPTIONS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: _error(5)(None))
        with pytest.raises(StorageError):
            save_checkpoint(generation(1), path, OPTIONS)

    assert _whole_generation(path) == 0


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, memoryview(data)[:512], at))

    save_checkpoint(generation(3), tmp_path / "model", OPTIONS)

    assert _whole_generation(tmp_path / "model") == 3


def test_an_old_checkpoint_that_is_being_deleted_is_no_staging_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeded bug: the old checkpoint is not locked before it gets the staging directory's name."""
    path = tmp_path / "model"
    save_checkpoint(generation(0), path, OPTIONS)
    delete = shutil.rmtree

    def delete_while_another_writes(old: Path, ignore_errors: bool) -> None:
        with pytest.raises(UsageError, match="another process"):
            save_checkpoint(generation(2), path, OPTIONS)
        delete(old, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", delete_while_another_writes)
    save_checkpoint(generation(1), path, OPTIONS)

    assert _whole_generation(path) == 1


def test_a_staging_directory_published_before_it_was_locked_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeded bug: after locking, the directory's name is not checked again."""
    path = tmp_path / "model"
    flock = fcntl.flock

    def published_meanwhile(fd: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        save_checkpoint(generation(1), path, OPTIONS)
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", published_meanwhile)
    with pytest.raises(UsageError, match="published"):
        save_checkpoint(generation(2), path, OPTIONS)

    assert _whole_generation(path) == 1


SOME_CALLS = ("close", "fdatasync", "flock", "fsync", "mkdir", "renameat2", "unlink", "write")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fault_inside_the_kernel_leaves_old_or_new(tmp_path: Path) -> None:
    """Seeded bug: an error of closing the lock is raised although the write was acknowledged."""
    if (reason := syscalls.why_not()) is not None:
        pytest.skip(reason)

    done = syscalls.fail_every_call(Saving(tmp_path), ["error=EIO"], tmp_path, SOME_CALLS)

    assert set(done) == set(SOME_CALLS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("writer", WRITERS)
def test_any_fault_at_any_system_call_of_any_writer(tmp_path: Path, writer: str) -> None:
    if (reason := syscalls.why_not()) is not None:
        pytest.skip(reason)

    done = syscalls.fail_every_call(WRITERS[writer](tmp_path), syscalls.FAULTS, tmp_path)

    assert done.total() > 100


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_writer_killed_at_any_instant_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    kill_writers(25, seed=3, directory=tmp_path)
