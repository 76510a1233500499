"""The SSD tier: a directory of copies. Copies left half-written by a crash are removed."""

import fcntl
import hashlib
import os
import re
import shutil
from pathlib import Path

import msgspec

from sllmcore.errors import SllmError, UsageError
from sllmreal.checkpoint.errors import StorageError
from sllmreal.control.deployment import ModelDeployment
from sllmreal.worker.remote_source import RemoteSource
from sllmreal.worker.ssd_copy import Manifest, SsdCopy, begin_copy, open_copy

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_KEY = re.compile(r"[A-Za-z0-9._-]+\.[0-9a-f]{16}")


class SsdDirectory:
    """All copies of a server, each in a directory of its own; only this process uses them.

    Raises:
        UsageError: Another process uses the directory, or it contains other things than copies.
        StorageError: The disk fails.
    """

    def __init__(self, path: Path, chunk_bytes: int) -> None:
        self.path = Path(path)
        self._chunk_bytes = chunk_bytes
        self.copies: dict[str, SsdCopy] = {}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(f"cannot keep copies in {self.path}: {error}") from error
        try:
            self._lock()
            for entry in sorted(self.path.iterdir()):
                self._adopt(entry)
        except OSError as error:
            self.close()
            raise StorageError(f"cannot keep copies in {self.path}: {error}") from error
        except SllmError:
            self.close()
            raise

    def close(self) -> None:
        """Unlock the directory for other processes."""
        os.close(self._lock_fd)

    def create(self, spec: ModelDeployment, origin: RemoteSource) -> SsdCopy:
        """Return an empty copy; delete an older copy of the same model."""
        path = self.path / _key(spec.name)
        self.remove(spec.name)
        manifest = Manifest(
            model=spec.name,
            source=spec.source,
            created_at_s=spec.created_at_s,
            identity=origin.layout.identity,
            size_bytes=origin.layout.size_bytes,
            chunk_bytes=self._chunk_bytes,
            resident_bytes=0,
        )
        try:
            (path / "checkpoint").mkdir(parents=True)
            origin.write_frame(path / "checkpoint")
            copy = begin_copy(path, manifest)
        except OSError as error:
            shutil.rmtree(path, ignore_errors=True)
            raise StorageError(f"cannot begin a copy in {path}: {error}") from error
        except SllmError:
            shutil.rmtree(path)
            raise
        self.copies[spec.name] = copy
        return copy

    def remove(self, model: str) -> None:
        """Delete a model's copy, if there is one."""
        self.copies.pop(model, None)
        path = self.path / _key(model)
        if path.exists():
            shutil.rmtree(path)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"another worker uses {self.path}: give each worker its own SSD directory"
            ) from error

    def _adopt(self, path: Path) -> None:
        if not _KEY.fullmatch(path.name) or not path.is_dir() or path.is_symlink():
            raise UsageError(f"{path} is not a model's copy: give the SSD tier its own directory")
        copy = self._sound(path)
        if copy is None:
            shutil.rmtree(path)
        else:
            self.copies[copy.manifest.model] = copy

    def _sound(self, path: Path) -> SsdCopy | None:
        """Return the copy in a directory, with its bytes that count; None if no bytes count."""
        try:
            copy = open_copy(path)
        except (OSError, SllmError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        manifest = copy.manifest
        same_chunks = manifest.chunk_bytes == self._chunk_bytes
        if path.name != _key(manifest.model) or not same_chunks:
            return None
        copy.trim(manifest.resident_bytes)
        return copy if copy.manifest.resident_bytes else None


def _key(model: str) -> str:
    """Return a readable directory name for a model; different models get different names."""
    digest = hashlib.sha256(model.encode()).hexdigest()[:16]
    return f"{_UNSAFE.sub('_', model)[:100]}.{digest}"
