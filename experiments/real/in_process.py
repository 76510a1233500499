"""A cluster in the event loop of this process, with engines in threads: it starts at once."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from experiments.real.bench_client import BenchClient
from experiments.real.children import journal_of
from experiments.real.plan import ClusterPlan, PlannedServer
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.messages import ReportedEvent
from sllmreal.leader.leader import LeaderSettings
from sllmreal.leader.memory_log import MemoryLog
from sllmreal.migration.links import LocalNetwork
from sllmreal.processes.local import LocalMember, local_cluster
from sllmreal.worker.data_plane import DataPlane
from sllmreal.worker.paced import PacedStorage
from sllmreal.worker.thread_runner import thread_launch
from sllmreal.worker.worker import Worker


@asynccontextmanager
async def in_process(
    plan: ClusterPlan, models: tuple[ModelDeployment, ...], directory: Path
) -> AsyncIterator[BenchClient]:
    """Run the planned cluster, with the models deployed, until the context ends."""
    log, network = MemoryLog(), LocalNetwork()
    settings = LeaderSettings(plan.policy, plan.seed, compaction=None)
    async with (
        local_cluster(settings, log, []) as cluster,
        AsyncExitStack() as stack,
    ):
        for model in models:
            cluster.leader.deploy(model)
        for server in plan.servers:
            member = _member(server, plan, network, directory)
            await stack.enter_async_context(cluster.join(member))
        client = BenchClient(cluster.router, cluster.link)
        yield client
        await cluster.leader.loop.durable()
        client.journal += journal_of(log.kept)


def _member(
    server: PlannedServer, plan: ClusterPlan, network: LocalNetwork, directory: Path
) -> LocalMember:
    spec = server.spec

    def make(plane: DataPlane, report: Callable[[ReportedEvent], None]) -> Worker:
        if plan.storage == "paced":
            paced = PacedStorage(spec, server.resident)
            return Worker(
                server=spec,
                storage=paced,
                make_runner=thread_launch(links=network.links),
                data_plane=plane,
                report=report,
            )
        from sllmreal.worker.tiers import TierStorage  # imports torch

        tiers = TierStorage(spec, directory / "ssd" / spec.id)
        launch = thread_launch(tiers.pool, network.links)
        return Worker(
            server=spec, storage=tiers, make_runner=launch, data_plane=plane, report=report
        )

    return LocalMember(spec, make)
