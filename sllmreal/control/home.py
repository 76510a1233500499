"""The directory of a cluster on one machine: its key, its store, its leader's address."""

import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sllmcore.errors import ClusterError, UsageError

KEY_BYTES = 32
# A Unix socket's path has at most 107 bytes; the names under a home take up to 40.
MAX_PATH_BYTES = 67
LEADER_KEY = "leader"  # in the store; its value is the leader's address
_SERVER_ID = re.compile(r"[A-Za-z0-9_-]{1,24}")


@dataclass(frozen=True, slots=True)
class Home:
    """A cluster's directory, which only this user can read."""

    directory: Path

    @property
    def store(self) -> Path:
        """The file of the SQLite store."""
        return self.directory / "store.db"

    @property
    def leader_socket(self) -> str:
        """The address of the leader of a cluster that is on this machine alone."""
        return f"unix:{self.directory / 'leader.sock'}"

    @property
    def leader(self) -> str:
        """The leader's address, or the store that contains it: see `site.Site`."""
        try:
            return (self.directory / "leader").read_text() or self.leader_socket
        except FileNotFoundError:
            return self.leader_socket

    def publish_leader(self, leader: str) -> None:
        """Set `leader` for all processes of this home."""
        unfinished = self.directory / f"leader.{os.getpid()}"
        unfinished.write_text(leader)
        unfinished.replace(self.directory / "leader")

    def worker(self, server_id: str) -> str:
        """Return the address of a worker's data plane. Raises UsageError for a bad server id."""
        if not _SERVER_ID.fullmatch(server_id):
            raise UsageError(
                f"a server's name has 1 to 24 letters, digits, _ or -, got {server_id[:50]!r}"
            )
        return f"unix:{self.directory / f'{server_id}.sock'}"

    def ssd(self, server_id: str) -> Path:
        """Return the directory of a worker's SSD copies."""
        return self.directory / "ssd" / server_id

    def key(self) -> bytes:
        """Return the cluster's key. Raises ClusterError if it is missing or others can read it."""
        try:
            file = self.directory / "key"
            if file.stat().st_mode & 0o077:
                raise ClusterError(f"others can read {file}: chmod 600 it")
            return bytes.fromhex(file.read_text())
        except (OSError, ValueError) as error:
            raise ClusterError(f"no cluster at {self.directory}: {error}") from error


def opened_home(directory: Path) -> Home:
    """Return the home at `directory`; create it if it is missing.

    Raises:
        UsageError: The path is too long, or the directory cannot be created.
    """
    directory = directory.expanduser().absolute()
    if len(os.fsencode(directory)) > MAX_PATH_BYTES:
        raise UsageError(
            f"the path of a cluster's directory has at most {MAX_PATH_BYTES} bytes: {directory}"
        )
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            fd = os.open(directory / "key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "w") as file:
                file.write(secrets.token_hex(KEY_BYTES))
    except OSError as error:
        raise UsageError(f"cannot create the cluster's directory {directory}: {error}") from error
    return Home(directory)
