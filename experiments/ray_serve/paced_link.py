"""An emulated link that the processes of a machine share.

A transfer is a series of chunks, which take turns with the chunks of other transfers. A file holds
the time until which the link is in use. A process books a chunk after that time and sleeps until
the chunk ends:

    end = max(end of the link's use, end of the transfer's last chunk) + chunk / bytes_per_s
"""

import fcntl
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

_TURN_S = 0.05  # time of a chunk on an unshared link
_TIME = struct.Struct("<d")


@dataclass(frozen=True, slots=True)
class PacedLink:
    """A link that gives concurrent transfers equal shares of `bytes_per_s`.

    Args:
        file: File of this link, shared by the processes that use it.
    """

    file: Path
    bytes_per_s: float

    def move(self, num_bytes: int, limit_bytes_per_s: float) -> None:
        """Sleep as long as a transfer takes, at `limit_bytes_per_s` at most."""
        chunk_bytes = max(1, int(self.bytes_per_s * _TURN_S))
        moved, end_s = 0, time.monotonic()
        limit_end_s = end_s
        fd = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while moved < num_bytes:
                turn_bytes = min(chunk_bytes, num_bytes - moved)
                limit_end_s += turn_bytes / limit_bytes_per_s
                end_s = max(self._booked(fd, end_s, turn_bytes), limit_end_s)
                moved += turn_bytes
                time.sleep(max(0.0, end_s - time.monotonic()))
        finally:
            os.close(fd)

    def _booked(self, fd: int, not_before_s: float, num_bytes: int) -> float:
        """Book a chunk as soon as the link is free, and return the time of its end."""
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            taken = os.pread(fd, _TIME.size, 0)
            free_at_s = _TIME.unpack(taken)[0] if taken else 0.0
            end_s = max(free_at_s, not_before_s) + num_bytes / self.bytes_per_s
            os.pwrite(fd, _TIME.pack(end_s), 0)
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)
        return end_s
