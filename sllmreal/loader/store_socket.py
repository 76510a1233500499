"""The Unix socket of a checkpoint store: one store per path, for the store's user only."""

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sllmcore.errors import UsageError
from sllmreal.loader.errors import CheckpointStoreError

DEFAULT_SOCKET = Path("~/.sllm/store.sock")
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_CONNECT_TIMEOUT_S = 10.0


def connected_socket(path: Path) -> socket.socket:
    """Connect to the store at `path`. Raises CheckpointStoreError if there is none."""
    path = path.expanduser()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_CONNECT_TIMEOUT_S)
        connection.connect(str(path))
        connection.settimeout(None)
    except OSError as error:
        connection.close()
        raise CheckpointStoreError(
            f"no store at {path} ({_reason(error)}): "
            f"start one with `sllm store serve --socket {path}`"
        ) from error
    return connection


def peer_pid(connection: socket.socket) -> int:
    """Return the process at the other end of a connection."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(raw)[0]
    return pid


@contextmanager
def listening_socket(path: Path) -> Iterator[socket.socket]:
    """Listen at `path` until the end, then remove the socket file.

    A socket file that no process listens at is replaced. Raises UsageError if another process
    listens there or the file is not a socket, CheckpointStoreError if listening fails.
    """
    path = path.expanduser()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(path.parent):
                _remove_stale(path)
                listener.bind(str(path))
                path.chmod(0o600)  # before it listens, so that no other user can connect
                bound = path.lstat()
                listener.listen(64)
        except OSError as error:
            raise CheckpointStoreError(f"cannot listen at {path}: {_reason(error)}") from error
        try:
            yield listener
        finally:
            with suppress(OSError):
                if os.path.samestat(bound, path.lstat()):  # not the socket of a later store
                    path.unlink()


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock a directory, so that of two starting stores one finds the other's socket."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{path} exists and is not a socket: choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        pid = peer_pid(probe)
    raise UsageError(f"process {pid} serves a store at {path}: end it or choose another --socket")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
