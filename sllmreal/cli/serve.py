"""`sllm serve`: run a leader, workers and a gateway on this machine."""

import argparse
import asyncio
import logging
import os
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

from sllmcore.errors import SllmError, UsageError
from sllmreal import logs
from sllmreal.cli.deploy import described, put
from sllmreal.cli.processes import cluster_processes
from sllmreal.control.home import Home, opened_home
from sllmreal.gateway.server import serve
from sllmreal.gateway.settings import GatewaySettings
from sllmreal.processes.attach import attached_gateway
from sllmreal.processes.claim import claimed
from sllmreal.processes.leader import durable_store
from sllmreal.processes.policy_options import served_policy
from sllmreal.processes.supervisor import kept_running
from sllmreal.router.gateway_backend import ClusterBackend
from sllmreal.router.silence import SilenceLimits

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.1
DEMO_NAME = "demo"
DEMO_SAMPLE = "llama-small"


def serve_command(arguments: argparse.Namespace) -> int:
    """Until SIGINT or SIGTERM. Raises UsageError for arguments that make no sense."""
    logs.configure_as_given(arguments)
    served_policy(arguments)
    durable_store(arguments.store)
    settings = GatewaySettings(arguments.host, arguments.port, arguments.keys)
    home = opened_home(arguments.home)
    asyncio.run(_serve(home, settings, arguments))
    return 0


async def _serve(home: Home, settings: GatewaySettings, arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    _stop_on_signals(stop, settings.timeouts.drain_s)
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def give_up(error: SllmError) -> None:
        if not failed.done():
            failed.set_exception(error)

    limits = SilenceLimits(engine_s=arguments.engine_silence_s)
    async with (
        claimed(home, "cluster"),
        kept_running(cluster_processes(home, arguments), on_failure=give_up),
        attached_gateway(home, limits) as gateway,
        AsyncExitStack() as stack,
    ):
        vital: list[asyncio.Future[None]] = [gateway.attached, failed]
        if arguments.demo:
            demo = asyncio.create_task(_deploy_demo(home))
            stack.callback(demo.cancel)
            vital.append(demo)
        for task in vital:
            task.add_done_callback(lambda done: stop.set() if _failed(done) else None)
        backend = ClusterBackend(gateway.router, gateway.link)

        def announce(host: str, port: int) -> None:
            ready = asyncio.create_task(_announce(backend, f"http://{host}:{port}/v1"))
            stack.callback(ready.cancel)

        await serve(backend, settings, stop=stop, ready=announce)
        for task in vital:
            if _failed(task):
                task.result()


def _failed(task: "asyncio.Future[None]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None


async def _deploy_demo(home: Home) -> None:
    """Generate a small model with random weights and deploy it."""
    directory = home.directory / "models" / DEMO_NAME
    if not (directory / "config.json").exists():
        await asyncio.to_thread(_write_demo, directory)
    spec = await asyncio.to_thread(described, directory, DEMO_NAME, time.time())
    try:
        await put(home, spec)
    except UsageError as error:  # deployed by an earlier run
        _LOG.info("%s", error)
    ids = {"model": DEMO_NAME}
    _LOG.info("demo model is served; its weights and so its answers are random", extra=ids)


def _write_demo(directory: Path) -> None:
    from sllmreal.engine.samples import write_sample

    write_sample(directory, DEMO_SAMPLE, with_tokenizer=True)


async def _announce(backend: ClusterBackend, url: str) -> None:
    """Log that requests are served, as soon as there is a leader and a worker."""
    _LOG.info("starting: requests to %s wait for the leader and a worker", url)
    while True:
        health = backend.health()
        if health.leader_alive and health.num_workers_alive:
            break
        await asyncio.sleep(_LOOK_S)
    _LOG.info("serving on %s", url)


def _stop_on_signals(stop: asyncio.Event, drain_s: float) -> None:
    """Have SIGTERM and SIGINT set `stop`, and a second one end the process at once.

    The kernel then ends the children, see `with_parent`.
    """
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()

    def handle(number: int) -> None:
        if signalled.is_set():
            _LOG.warning("ending at once")
            os._exit(128 + number)
        signalled.set()
        stop.set()
        _LOG.warning(
            "stopping: waiting up to %g s for open requests, then for the leader and the workers; "
            "Ctrl-C again ends at once",
            drain_s,
        )

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number)
