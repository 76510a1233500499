"""The gateway under test, in a process of its own, and its use of CPU and memory."""

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import psutil  # type: ignore[import-untyped]

from experiments.benchmarks.gateway.fixed_backend import Capacity, FixedBackend
from sllmreal.gateway.server import serve
from sllmreal.gateway.settings import GatewaySettings, Limits, Timeouts

# Idle connections stay open for a whole measurement.
TIMEOUTS = Timeouts(headers_s=600.0, idle_s=600.0, write_s=5.0, drain_s=1.0)


def limits(waiting: int) -> Limits:
    """Return limits with `waiting`, and all others too high to matter: all clients are one key."""
    return Limits(waiting=waiting, requests_per_key=100_000, requests_per_s=1e6, burst=10**6)


@dataclass(frozen=True, slots=True)
class ServedGateway:
    """A running gateway."""

    address: tuple[str, int]
    process: psutil.Process

    @property
    def rss_bytes(self) -> int:
        """Resident memory of the process."""
        return int(self.process.memory_info().rss)

    @property
    def cpu_s(self) -> float:
        """CPU time of the process, user and system."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def serving(capacity: Capacity, waiting: int) -> Iterator[ServedGateway]:
    """Run a gateway in a process of its own until the context ends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(capacity, waiting, theirs))
    child.start()
    try:
        yield ServedGateway(ours.recv(), psutil.Process(child.pid))
    finally:
        ours.send("stop")
        child.join()


def _serve(capacity: Capacity, waiting: int, pipe: Connection) -> None:
    async def run() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), stop.set)
        settings = GatewaySettings(port=0, limits=limits(waiting), timeouts=TIMEOUTS)
        backend = FixedBackend(capacity)
        await serve(backend, settings, stop=stop, ready=lambda host, port: pipe.send((host, port)))

    asyncio.run(run())
