"""A cluster of processes on this machine: a leader, workers, and their engine processes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from experiments.real.bench_client import BenchClient
from experiments.real.plan import ClusterPlan, PlannedServer
from sllmcore.errors import ClusterError
from sllmcore.events import ServerJoined
from sllmcore.journal import header_line, to_plain
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.home import Home, opened_home
from sllmreal.control.messages import DeployModel
from sllmreal.control.operator import ask
from sllmreal.leader.log_records import LogHeader, LogRecord, decoded
from sllmreal.processes.attach import AttachedGateway, attached_gateway
from sllmreal.processes.leader import LOG_PREFIX
from sllmreal.processes.supervisor import ChildCommand, kept_running
from sllmreal.store import read_lines
from sllmreal.store.sqlite import SqliteStore

_START_S = 60.0  # limit for the start of a process on a busy machine


@asynccontextmanager
async def in_children(
    plan: ClusterPlan, models: tuple[ModelDeployment, ...], directory: Path
) -> AsyncIterator[BenchClient]:
    """Run the planned cluster, with the models deployed, until the context ends.

    Raises:
        ClusterError: A process ended before the end of the context.
    """
    home = opened_home(directory / "home")
    ended: list[str] = []
    async with AsyncExitStack() as stack:
        policy = directory / "policy.json"
        policy.write_text(header_line(plan.policy, plan.seed) + "\n")
        allowed = ("--allow", *plan.policy.references)
        keep_all = ("--compact-every", "0")  # the journal is read when the cluster has stopped
        leader = _command(
            "leader", "leader", home, "--policy-file", str(policy), *keep_all, *allowed
        )
        await stack.enter_async_context(kept_running([leader], ended.append))
        gateway = await stack.enter_async_context(attached_gateway(home))
        client = BenchClient(gateway.router, gateway.link)
        for model in models:
            await ask(home, DeployModel(model), wait_s=_START_S)
        for number, server in enumerate(plan.servers):
            command = _worker(server, plan, home, directory)
            await stack.enter_async_context(kept_running([command], ended.append))
            await _joined(gateway, number + 1)
        yield client
        if gateway.attached.done():
            gateway.attached.result()
    if ended:
        raise ClusterError(f"processes ended during the run: {'; '.join(ended)}")
    client.journal += await _stored_journal(home)


def _worker(server: PlannedServer, plan: ClusterPlan, home: Home, directory: Path) -> ChildCommand:
    server_id = server.spec.id
    file = directory / f"{server_id}.json"
    file.write_text(json.dumps(to_plain(ServerJoined(server.spec, server.resident))))
    paced = ("--paced",) if plan.storage == "paced" else ()
    return _command(f"worker {server_id}", "worker", home, "--server-file", str(file), *paced)


def _command(name: str, module: str, home: Home, *arguments: str) -> ChildCommand:
    where = ("--home", str(home.directory))
    return ChildCommand(name, f"sllmreal.processes.{module}", (*where, *arguments))


async def _joined(gateway: AttachedGateway, num_workers: int) -> None:
    """Wait until `num_workers` have joined.

    Workers start one after the other, so that the controller knows them in the config's order.
    """
    try:
        async with asyncio.timeout(_START_S):
            while gateway.router.num_workers < num_workers:  # noqa: ASYNC110 - a message changes it
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        raise ClusterError(f"worker {num_workers} has not joined in {_START_S:g} s") from error


async def _stored_journal(home: Home) -> list[str]:
    """Read the journal of a cluster that has stopped."""
    store = await SqliteStore.open(home.store)
    try:
        return journal_of([line async for line in read_lines(store, LOG_PREFIX)])
    finally:
        await store.close()


def journal_of(records: list[str]) -> list[str]:
    """Return the lines of the journal in the records of a leader's log."""
    first, *rest = records
    return [decoded(first, LogHeader).line, *(decoded(line, LogRecord).line for line in rest)]
