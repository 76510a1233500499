"""The directory of a cluster on one machine: its key, its store, where its leader is found."""

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
    """Paths under `directory`, which is for this user only."""

    directory: Path

    @property
    def store(self) -> Path:
        return self.directory / "store.db"

    @property
    def leader_socket(self) -> str:
        """Where the leader of a cluster on this machine alone listens."""
        return f"unix:{self.directory / 'leader.sock'}"

    @property
    def leader(self) -> str:
        """Where to look for the leader: see `site.Site`."""
        try:
            return (self.directory / "leader").read_text() or self.leader_socket
        except FileNotFoundError:
            return self.leader_socket

    def publish_leader(self, leader: str) -> None:
        """Have the processes of this home look for the leader there."""
        unfinished = self.directory / f"leader.{os.getpid()}"
        unfinished.write_text(leader)
        unfinished.replace(self.directory / "leader")

    def worker(self, server_id: str) -> str:
        """Where a worker's data plane listens. Raises UsageError for a name that is no file's."""
        if not _SERVER_ID.fullmatch(server_id):
            raise UsageError(
                f"a server's name has 1 to 24 letters, digits, _ or -, got {server_id[:50]!r}"
            )
        return f"unix:{self.directory / f'{server_id}.sock'}"

    def ssd(self, server_id: str) -> Path:
        """A worker's copies."""
        return self.directory / "ssd" / server_id

    def key(self) -> bytes:
        """The cluster's key. Raises ClusterError where there is none, or others can read it."""
        try:
            file = self.directory / "key"
            if file.stat().st_mode & 0o077:
                raise ClusterError(f"{file} must be readable by its owner only")
            return bytes.fromhex(file.read_text())
        except (OSError, ValueError) as error:
            raise ClusterError(f"no cluster at {self.directory}: {error}") from error


def opened_home(directory: Path) -> Home:
    """The home at `directory`, made if it is not there. Raises UsageError where it cannot be."""
    directory = directory.expanduser().absolute()
    if len(os.fsencode(directory)) > MAX_PATH_BYTES:
        raise UsageError(f"a cluster's directory has up to {MAX_PATH_BYTES} bytes: {directory}")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            fd = os.open(directory / "key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "w") as file:
                file.write(secrets.token_hex(KEY_BYTES))
    except OSError as error:
        raise UsageError(f"{directory} cannot be a cluster's directory: {error}") from error
    return Home(directory)
