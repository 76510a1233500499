"""A link of a given rate inside one machine: another network namespace behind a token bucket.

The bucket is the kernel's own (`tc tbf`) and shapes every packet, headers included; nothing else on
the machine passes through it.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

BURST_BYTES = 4 << 20  # 3 ms at 10 Gbit/s: timers of one tick then still fill the link


@dataclass(frozen=True, slots=True)
class NetworkLink:
    """The far end: where to run a server (`command` before its own), and its address."""

    command: tuple[str, ...]
    address: str


def why_not() -> str | None:
    """Why links cannot be emulated here; None where it can be tried."""
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    return None if os.geteuid() == 0 else "network namespaces need root"


@contextmanager
def emulated_link(bytes_per_s: float | None) -> Iterator[NetworkLink]:
    """A link whose far end sends at most that fast (None: as fast as it can), gone at the end."""
    name = f"loading-{os.getpid()}"
    near, far = f"near{os.getpid() % 10**8}", f"far{os.getpid() % 10**8}"
    network = f"169.254.{os.getpid() % 200 + 20}"
    inside = ("ip", "netns", "exec", name)
    with ExitStack() as teardown:
        _run("ip", "netns", "add", name)
        teardown.callback(_run, "ip", "netns", "del", name)
        _run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        teardown.callback(_run, "ip", "link", "del", near)
        _run("ip", "addr", "add", f"{network}.1/30", "dev", near)
        _run("ip", "link", "set", near, "up")
        _run(*inside, "ip", "addr", "add", f"{network}.2/30", "dev", far)
        _run(*inside, "ip", "link", "set", far, "up")
        if bytes_per_s is not None:
            rate = f"{int(bytes_per_s)}bps"  # tc's "bps" are bytes
            shape = ("rate", rate, "burst", str(BURST_BYTES), "latency", "50ms")
            _run(*inside, "tc", "qdisc", "add", "dev", far, "root", "tbf", *shape)
        yield NetworkLink(inside, f"{network}.2")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
