"""Our cluster as a system to replay workloads against."""

import asyncio
import tempfile
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from experiments.real.bench_client import Front
from experiments.real.children import in_children
from experiments.real.in_process import in_process
from experiments.real.plan import ClusterPlan
from experiments.real.sending import Sending, check_lags, sent_on_time, write_sendings
from experiments.real.system import Workload
from experiments.real.tables import ReplayTables, write_played
from sllmcore.errors import ClusterError
from sllmcore.metrics import Summary
from sllmreal.control.deployment import ModelDeployment

BEGIN_IN_S = 0.2  # from the cluster's being ready to the first instant of the workload
_LINGER_S = 600.0  # beyond the last arrival and the start-up time-out: then something hangs


@dataclass(frozen=True, slots=True)
class RealCluster:
    """A `System`: leader, workers and engines, placed as the plan says, ended after each replay."""

    plan: ClusterPlan

    def replay(self, workload: Workload, folder: Path) -> Summary:
        """Also writes instances.parquet and the journal."""
        # Below the system's own directory for such, for a Unix socket's path is short.
        with tempfile.TemporaryDirectory(prefix="sllm-") as directory:
            sendings, played = asyncio.run(self._replayed(workload, Path(directory)))
        write_sendings(sendings, folder)
        check_lags(sendings, workload.max_send_lag_s)
        return write_played(played, folder, self.plan.policy, self.plan.seed)

    def _running(
        self, models: tuple[ModelDeployment, ...], directory: Path
    ) -> AbstractAsyncContextManager[Front]:
        if self.plan.placement == "children":
            return in_children(self.plan, models, directory)
        return in_process(self.plan, models, directory)

    async def _replayed(
        self, workload: Workload, directory: Path
    ) -> tuple[list[Sending], ReplayTables]:
        async with self._running(workload.models, directory) as front:
            start_s = front.link.now_s() + BEGIN_IN_S
            sendings = await self._sent(workload, front)
            await front.settled()
            end_s = front.link.now_s()
        return sendings, ReplayTables(tuple(front.journal), start_s, end_s)

    async def _sent(self, workload: Workload, front: Front) -> list[Sending]:
        last_s = workload.jobs[-1].request.arrived_at_s if workload.jobs else 0.0
        waits_s = self.plan.policy.controller.startup_timeout_s or 0.0
        limit_s = last_s + waits_s + _LINGER_S
        try:
            async with asyncio.timeout(limit_s):
                return await sent_on_time(workload.jobs, front.ask, BEGIN_IN_S)
        except TimeoutError as error:
            raise ClusterError(f"requests have not ended after {limit_s:.0f} s") from error
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
