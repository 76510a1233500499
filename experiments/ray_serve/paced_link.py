"""A link that the processes of one machine share, each paced as if bytes went over it.

A transfer takes turns of a chunk with whoever else is there. The file says until when the link is
taken; a chunk is booked behind that, and its process sleeps until the chunk is through:

    end = max(the link's, the transfer's last end) + chunk / bytes_per_s
"""

import fcntl
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

_TURN_S = 0.05  # of the link's time; a transfer alone is woken so often
_TIME = struct.Struct("<d")


@dataclass(frozen=True, slots=True)
class PacedLink:
    """Equal shares of `bytes_per_s` for all that move at once. `file` is the link's alone."""

    file: Path
    bytes_per_s: float

    def move(self, num_bytes: int, limit_bytes_per_s: float) -> None:
        """Return when so many bytes have come through; no faster than the limit."""
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
        """Until when a turn lasts that begins as soon as the link is free."""
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            taken = os.pread(fd, _TIME.size, 0)
            free_at_s = _TIME.unpack(taken)[0] if taken else 0.0
            end_s = max(free_at_s, not_before_s) + num_bytes / self.bytes_per_s
            os.pwrite(fd, _TIME.pack(end_s), 0)
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)
        return end_s
