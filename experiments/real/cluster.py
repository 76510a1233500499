"""A real cluster as a system to replay workloads against."""

import asyncio
import tempfile
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from experiments.real.bench_client import BenchClient
from experiments.real.children import in_children
from experiments.real.in_process import in_process
from experiments.real.plan import ClusterPlan
from experiments.real.sending import Sending, check_lags, sent_on_time, write_sendings
from experiments.real.system import Workload
from experiments.real.tables import ReplayTables, write_played
from sllmcore.errors import ClusterError
from sllmcore.metrics import Summary
from sllmreal.control.deployment import ModelDeployment

BEGIN_IN_S = 0.2  # from the start of the cluster to the first instant of the workload
_LINGER_S = 600.0  # limit for a run after the last arrival and the startup timeout


@dataclass(frozen=True, slots=True)
class RealCluster:
    """A `System`: a leader, workers and engines, started for each replay from `plan`."""

    plan: ClusterPlan

    def replay(self, workload: Workload, folder: Path) -> Summary:
        """Replay a workload, see `System.replay`; also writes instances.parquet and the journal."""
        # In the system's temporary directory, because the path of a Unix socket must be short.
        with tempfile.TemporaryDirectory(prefix="sllm-") as directory:
            sendings, played = asyncio.run(self._replayed(workload, Path(directory)))
        write_sendings(sendings, folder)
        check_lags(sendings, workload.max_send_lag_s)
        return write_played(played, folder, self.plan.policy, self.plan.seed)

    def _running(
        self, models: tuple[ModelDeployment, ...], directory: Path
    ) -> AbstractAsyncContextManager[BenchClient]:
        if self.plan.placement == "children":
            return in_children(self.plan, models, directory)
        return in_process(self.plan, models, directory)

    async def _replayed(
        self, workload: Workload, directory: Path
    ) -> tuple[list[Sending], ReplayTables]:
        async with self._running(workload.models, directory) as client:
            start_s = client.link.now_s() + BEGIN_IN_S
            sendings = await self._sent(workload, client)
            await client.settled()
            end_s = client.link.now_s()
        return sendings, ReplayTables(tuple(client.journal), start_s, end_s)

    async def _sent(self, workload: Workload, client: BenchClient) -> list[Sending]:
        last_s = workload.jobs[-1].request.arrived_at_s if workload.jobs else 0.0
        waits_s = self.plan.policy.controller.startup_timeout_s or 0.0
        limit_s = last_s + waits_s + _LINGER_S
        try:
            async with asyncio.timeout(limit_s):
                return await sent_on_time(workload.jobs, client.ask, BEGIN_IN_S)
        except TimeoutError as error:
            raise ClusterError(f"requests have not ended after {limit_s:.0f} s") from error
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
