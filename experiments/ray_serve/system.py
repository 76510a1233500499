"""Ray Serve as a system to replay workloads against: one application per model, scaled to zero.

Each model may have as many replicas as there are GPUs for; a replica that has nothing to do goes
after as long as it takes to load it, as ServerlessLLM's keep-alive is. Requests come through a
handle, as they come through our desk, without HTTP on either side.
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
from experiments.ray_serve.loopback import ray_cluster
from experiments.ray_serve.node import Node
from experiments.ray_serve.replica import Replica
from experiments.ray_serve.told import LEFT, TIMED_OUT, Started, Told, read_lives
from experiments.real.sending import Elapsed, Sending, check_lags, sent_on_time, write_sendings
from experiments.real.system import Workload, prompt_of
from experiments.simulation.setup import sim_setup
from sllmcore.errors import ClusterError
from sllmcore.metrics import Summary
from sllmcore.types import DRAM, SSD, StorageTier
from sllmreal.control.deployment import ModelDeployment
from sllmsim.setup import LoaderProfile, SimServerSetup

BEGIN_IN_S = 0.5
# Ray's own 10 s and 30 s would lag behind bursts of seconds: set in Ray Serve's favour.
_PUSH_S = 1.0  # how often a handle tells the autoscaler of its requests
_LOOK_BACK_S = 2.0  # over which the autoscaler averages


@dataclass(frozen=True, slots=True)
class RayServe:
    """A `System`.

    Args:
        servers: One Ray node each; they begin with empty caches.
        loader: Its shares of their bandwidths.
        keeps: Tiers that keep what was downloaded.
        startup_timeout_s: A request that has not begun by then is given up.
    """

    servers: tuple[SimServerSetup, ...]
    loader: LoaderProfile
    keeps: tuple[StorageTier, ...]
    startup_timeout_s: float | None

    def replay(self, workload: Workload, folder: Path) -> Summary:
        """Also writes instances.parquet."""
        gpus = {server.id: server.hardware.num_gpus for server in self.servers}
        with tempfile.TemporaryDirectory(prefix="sllm-") as name, ray_cluster(gpus) as node_ids:
            directory = Path(name)
            handles = self._deployed(workload.models, node_ids, directory)
            clients = _Clients(handles, self.startup_timeout_s)
            sendings = asyncio.run(clients.sent(workload))
            end_s = time.time() - clients.start_s
            lives = read_lives(directory)
        write_sendings(sendings, folder)
        check_lags(sendings, workload.max_send_lag_s)
        specs = tuple(server.hardware.spec(server.id) for server in self.servers)
        told = Told(
            specs, workload.models, lives, sendings, clients.started, clients.start_s, end_s
        )
        return told.written(folder)

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
        return Node(server.id, server.hardware, self.loader, self.keeps, own)

    def _scaling(self, model: ModelDeployment) -> AutoscalingConfig:
        hardware = [server.hardware for server in self.servers]
        slowest_bytes_per_s = min(one.nic_bytes_per_s for one in hardware)
        stay_s = model.size_bytes / slowest_bytes_per_s
        return AutoscalingConfig(
            min_replicas=0,
            initial_replicas=0,
            max_replicas=sum(one.num_gpus // model.num_gpus for one in hardware),
            target_ongoing_requests=model.num_slots,
            look_back_period_s=_LOOK_BACK_S,
            metrics_interval_s=_PUSH_S,
            upscale_delay_s=0.0,
            downscale_delay_s=stay_s,
            downscale_to_zero_delay_s=stay_s,
        )


def ray_serve(config: RunConfig) -> RayServe:
    """The system of a config with `driver.system=ray_serve`; its policy says what nodes keep."""
    policy = config.policy
    residency = policy.residency
    keeps = (*((DRAM,) * residency.caches_dram), *((SSD,) * residency.caches_ssd))
    servers = tuple(sim_setup(config).servers)
    return RayServe(servers, config.driver.loader, keeps, policy.controller.startup_timeout_s)


@dataclass(slots=True)
class _Clients:
    """Everybody who asks."""

    handles: Mapping[str, DeploymentHandle[Replica]]
    startup_timeout_s: float | None
    start_s: float = 0.0  # the workload's 0 s by the wall clock
    started: dict[str, Started] = field(default_factory=dict)

    async def sent(self, workload: Workload) -> list[Sending]:
        """All requests, each at its time, to their ends."""
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
            raise ClusterError(f"{job.request.id} got {sending.output_tokens} tokens")

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
            self.started[job.request.id] = Started(replica_id, at_s - self.start_s)
            async for _ in stream:
                if not sending.output_tokens:
                    sending.first_token_at_s = elapsed_s()
                sending.output_tokens += 1
        finally:
            stream.cancel()  # type: ignore[no-untyped-call]  # nothing where it has ended
