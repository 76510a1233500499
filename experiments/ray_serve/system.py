"""Ray Serve as a system to replay workloads against: an application per model, scaled to zero.

A model may have as many replicas as fit on the GPUs. The keep-alive of an idle replica is the time
that its load takes, as in ServerlessLLM. Requests are sent through a handle, without HTTP, as they
are to our request router.
"""

import asyncio
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from experiments.config.run_config import RunConfig
from experiments.ray_serve.local_cluster import ray_cluster
from experiments.ray_serve.node import Node
from experiments.ray_serve.replica import Replica
from experiments.ray_serve.run_record import (
    LEFT,
    TIMED_OUT,
    RayServeRun,
    RequestStart,
    read_events,
)
from experiments.real.sending import Elapsed, Sending, check_lags, sent_on_time, write_sendings
from experiments.real.system import Workload, prompt_of
from experiments.simulation.setup import sim_setup
from sllmcore.errors import ClusterError
from sllmcore.metrics import Summary
from sllmcore.types import DRAM, SSD, StorageTier
from sllmreal.control.deployment import ModelDeployment
from sllmsim.setup import LoaderProfile, SimServerSetup

BEGIN_IN_S = 0.5
# In Ray Serve's favour: its defaults of 10 s and 30 s would lag behind bursts of seconds.
_PUSH_S = 1.0  # interval at which a handle reports its requests to the autoscaler
_LOOK_BACK_S = 2.0  # window over which the autoscaler averages


@dataclass(frozen=True, slots=True)
class RayServe:
    """A `System` that runs Ray Serve.

    Args:
        servers: Servers, each a Ray node; their caches are empty at the start.
        loader: The loader's shares of their bandwidths.
        cache_tiers: Tiers that keep downloaded checkpoints.
        startup_timeout_s: Seconds after which a client cancels a request that has not started.
    """

    servers: tuple[SimServerSetup, ...]
    loader: LoaderProfile
    cache_tiers: tuple[StorageTier, ...]
    startup_timeout_s: float | None

    def replay(self, workload: Workload, folder: Path) -> Summary:
        """Replay a workload; see `System.replay`. Also writes instances.parquet."""
        gpus = {server.id: server.hardware.num_gpus for server in self.servers}
        with tempfile.TemporaryDirectory(prefix="sllm-") as name, ray_cluster(gpus) as node_ids:
            directory = Path(name)
            handles = self._deployed(workload.models, node_ids, directory)
            clients = _Clients(handles, self.startup_timeout_s)
            sendings = asyncio.run(clients.sent(workload))
            end_s = time.time() - clients.start_s
            events = read_events(directory)
        write_sendings(sendings, folder)
        check_lags(sendings, workload.max_send_lag_s)
        specs = tuple(server.hardware.spec(server.id) for server in self.servers)
        run = RayServeRun(
            servers=specs,
            models=workload.models,
            events=events,
            sendings=sendings,
            started=clients.started,
            start_s=clients.start_s,
            end_s=end_s,
        )
        return run.write_tables(folder)

    def _deployed(
        self, models: tuple[ModelDeployment, ...], node_ids: Mapping[str, str], directory: Path
    ) -> dict[str, DeploymentHandle[Replica]]:
        nodes = {node_ids[server.id]: self._node(server, directory) for server in self.servers}
        targets = []
        for model in models:
            deployed = serve.deployment(
                name=model.name,
                max_ongoing_requests=model.num_slots,
                autoscaling_config=self._scaling(model),
                ray_actor_options={"num_cpus": 0, "num_gpus": model.num_gpus},
            )(Replica)
            application = deployed.bind(model, nodes, directory)
            targets.append(serve.RunTarget(application, name=model.name, route_prefix=None))
        handles = serve.run_many(targets)
        return {model.name: handle for model, handle in zip(models, handles, strict=True)}

    def _node(self, server: SimServerSetup, directory: Path) -> Node:
        own = directory / server.id
        own.mkdir()
        return Node(
            server_id=server.id,
            hardware=server.hardware,
            loader=self.loader,
            cache_tiers=self.cache_tiers,
            directory=own,
        )

    def _scaling(self, model: ModelDeployment) -> AutoscalingConfig:
        hardware = [server.hardware for server in self.servers]
        slowest_bytes_per_s = min(one.nic_bytes_per_s for one in hardware)
        keep_alive_s = model.size_bytes / slowest_bytes_per_s
        return AutoscalingConfig(
            min_replicas=0,
            initial_replicas=0,
            max_replicas=sum(one.num_gpus // model.num_gpus for one in hardware),
            target_ongoing_requests=model.num_slots,
            look_back_period_s=_LOOK_BACK_S,
            metrics_interval_s=_PUSH_S,
            upscale_delay_s=0.0,
            downscale_delay_s=keep_alive_s,
            downscale_to_zero_delay_s=keep_alive_s,
        )


def ray_serve(config: RunConfig) -> RayServe:
    """Return the system of a config with `driver.system=ray_serve`.

    The config's residency policy determines the tiers that cache.
    """
    policy = config.policy
    residency = policy.residency
    cache_tiers = (*((DRAM,) * residency.caches_dram), *((SSD,) * residency.caches_ssd))
    servers = tuple(sim_setup(config).servers)
    timeout_s = policy.controller.startup_timeout_s
    return RayServe(servers, config.driver.loader, cache_tiers, timeout_s)


@dataclass(slots=True)
class _Clients:
    """The clients of a replay."""

    handles: Mapping[str, DeploymentHandle[Replica]]
    startup_timeout_s: float | None
    start_s: float = 0.0  # the workload's 0 s by the wall clock
    started: dict[str, RequestStart] = field(default_factory=dict)

    async def sent(self, workload: Workload) -> list[Sending]:
        """Send each request at its time, and return when all have ended."""
        self.start_s = time.time() + BEGIN_IN_S
        return await sent_on_time(workload.jobs, self._ask, BEGIN_IN_S)

    async def _ask(self, sending: Sending, elapsed_s: Elapsed) -> None:
        job = sending.job
        left_s = job.cancel_at_s
        patience_s = None if left_s is None else max(0.0, left_s - elapsed_s())
        try:
            async with asyncio.timeout(patience_s):
                await self._answered(sending, elapsed_s)
        except TimeoutError:
            sending.problem = sending.problem or LEFT
        except ray.exceptions.RayError as error:
            sending.problem = f"{type(error).__name__}: {error}"[:200]
            return
        if not sending.problem and sending.output_tokens != job.output_tokens:
            raise ClusterError(
                f"{job.request.id} got {sending.output_tokens} tokens, expected {job.output_tokens}"
            )

    async def _answered(self, sending: Sending, elapsed_s: Elapsed) -> None:
        job = sending.job
        handle = self.handles[job.request.model].options(stream=True)
        stream = handle.generate.remote(job.request.id, prompt_of(job), job.output_tokens)
        assert isinstance(stream, DeploymentResponseGenerator)
        try:
            try:
                async with asyncio.timeout(self.startup_timeout_s):
                    replica_id, at_s = await anext(stream)
            except TimeoutError:
                sending.problem = TIMED_OUT
                return
            self.started[job.request.id] = RequestStart(replica_id, at_s - self.start_s)
            async for _ in stream:
                if not sending.output_tokens:
                    sending.first_token_at_s = elapsed_s()
                sending.output_tokens += 1
        finally:
            stream.cancel()  # type: ignore[no-untyped-call]  # no effect on a stream that has ended
