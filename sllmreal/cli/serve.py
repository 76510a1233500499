"""`sllm serve`: run a leader, workers and a gateway on this machine."""

import argparse
import asyncio
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

from sllmcore.errors import UsageError
from sllmreal.cli.deploy import described, put
from sllmreal.cli.processes import cluster_processes
from sllmreal.control.home import Home, opened_home
from sllmreal.gateway.server import serve
from sllmreal.gateway.settings import GatewaySettings
from sllmreal.processes.attach import attached_gateway
from sllmreal.processes.leader import durable_store
from sllmreal.processes.policy_options import served_policy
from sllmreal.processes.supervisor import kept_running
from sllmreal.router.gateway_backend import ClusterBackend

DEMO_NAME = "demo"
DEMO_SAMPLE = "llama-small"


def serve_command(arguments: argparse.Namespace) -> int:
    """Run the cluster until SIGINT or SIGTERM. Raises UsageError for a wrong option."""
    served_policy(arguments)
    durable_store(arguments.store)
    settings = GatewaySettings(arguments.host, arguments.port, arguments.keys)
    home = opened_home(arguments.home)
    asyncio.run(_serve(home, settings, arguments))
    return 0


async def _serve(home: Home, settings: GatewaySettings, arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with (
        kept_running(cluster_processes(home, arguments), _say),
        attached_gateway(home) as gateway,
        AsyncExitStack() as stack,
    ):
        vital = [gateway.attached]
        if arguments.demo:
            demo = asyncio.create_task(_deploy_demo(home))
            stack.callback(demo.cancel)
            vital.append(demo)
        for task in vital:
            task.add_done_callback(lambda done: stop.set() if _failed(done) else None)
        backend = ClusterBackend(gateway.router, gateway.link)
        await serve(backend, settings, stop=stop, ready=_announce)
        for task in vital:
            if _failed(task):
                task.result()


def _failed(task: "asyncio.Task[None]") -> bool:
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
        _say(str(error))
    _say(f"model {DEMO_NAME!r} is deployed; its weights, and so its answers, are random")


def _write_demo(directory: Path) -> None:
    from sllmreal.engine.samples import write_sample

    write_sample(directory, DEMO_SAMPLE, with_tokenizer=True)


def _announce(host: str, port: int) -> None:
    _say(f"serving on http://{host}:{port}/v1")


def _say(line: str) -> None:
    sys.stderr.write(f"sllm: {line}\n")
    sys.stderr.flush()
