"""The gateway under test, alone in its process: `serving` starts one and says what it uses."""

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

# Idle connections are to stay for a whole measurement, and one key is all clients together.
TIMEOUTS = Timeouts(headers_s=600.0, idle_s=600.0, write_s=5.0, drain_s=1.0)


def limits(waiting: int) -> Limits:
    """The bounds of the gateway measured: those of its queue, and else out of the way."""
    return Limits(waiting=waiting, requests_per_key=100_000, requests_per_s=1e6, burst=10**6)


@dataclass(frozen=True, slots=True)
class Served:
    """A running gateway."""

    address: tuple[str, int]
    process: psutil.Process

    @property
    def rss_bytes(self) -> int:
        return int(self.process.memory_info().rss)

    @property
    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def serving(capacity: Capacity, waiting: int) -> Iterator[Served]:
    """A gateway in a process of its own, stopped at the end."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(capacity, waiting, theirs))
    child.start()
    try:
        yield Served(ours.recv(), psutil.Process(child.pid))
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
