"""An emulated link of a given rate: a second network namespace behind a token bucket.

The bucket is the kernel's (`tc tbf`). It shapes every packet, headers included, and no other
traffic of the machine.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

BURST_BYTES = 4 << 20  # 3 ms at 10 Gbit/s: enough to fill the link between two timer ticks


@dataclass(frozen=True, slots=True)
class NetworkLink:
    """The far end of a link: `command` is put before a server's command to run it there."""

    command: tuple[str, ...]
    address: str


def why_not() -> str | None:
    """Return the reason that links cannot be emulated here; None if they probably can."""
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    return None if os.geteuid() == 0 else "network namespaces need root"


@contextmanager
def emulated_link(bytes_per_s: float | None) -> Iterator[NetworkLink]:
    """Create a link with a limited rate from the far end (None: no limit); remove it at the end."""
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
