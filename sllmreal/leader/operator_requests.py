"""Answers to operators: deploy or delete a model, show the cluster."""

from typing import Protocol, assert_never

from sllmcore.errors import UsageError
from sllmcore.types import DRAM, SSD, StorageTier
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.messages import (
    ClusterStatus,
    DeleteModel,
    DeployModel,
    GetStatus,
    InstanceStatus,
    OperatorAnswer,
    OperatorDone,
    OperatorRefused,
    OperatorRequest,
    ServerStatus,
)
from sllmreal.leader.control_loop import ControlLoop
from sllmreal.leader.peers import PeerTable


class OperatedLeader(Protocol):
    """The part of a leader that an operator may see and change."""

    def deploy(self, model: ModelDeployment) -> None:
        """Deploy a model. Raises UsageError if its name is taken."""
        ...

    def delete(self, name: str) -> None:
        """Delete a model. Raises UsageError if no model has that name."""
        ...

    def status(self) -> ClusterStatus:
        """Return the cluster's status."""
        ...

    async def durable(self) -> None:
        """Return when everything that has been done is in the log."""
        ...


async def answer(leader: OperatedLeader, request: OperatorRequest) -> OperatorAnswer:
    """Carry out a request and return the answer to it; changes are durable by then."""
    try:
        match request:
            case DeployModel(model):
                leader.deploy(model)
            case DeleteModel(name):
                leader.delete(name)
            case GetStatus():
                return leader.status()
            case _:
                assert_never(request)
    except UsageError as error:
        return OperatorRefused(str(error))
    await leader.durable()
    return OperatorDone()


def cluster_status(term: int, loop: ControlLoop, peer_table: PeerTable) -> ClusterStatus:
    """Return the cluster's status as the controller of a leader's term has it."""
    cluster = loop.controller.cluster
    return ClusterStatus(
        term=term,
        now_s=loop.clock.now_s(),
        num_waiting=loop.controller.num_waiting,
        num_events=loop.num_events,
        num_log_keys=loop.num_log_keys,
        models=tuple(peer_table.deployed.values()),
        servers=tuple(_server_status(loop, peer_table, server_id) for server_id in cluster.servers),
        instances=tuple(
            InstanceStatus(
                id=one.id,
                model=one.model,
                server_id=one.server_id,
                gpu_indices=one.gpu_indices,
                ready=one.ready,
                num_requests=len(one.requests),
            )
            for one in cluster.instances.values()
        ),
        problems=loop.state.problems.all(),
    )


def _server_status(loop: ControlLoop, peer_table: PeerTable, server_id: str) -> ServerStatus:
    cluster = loop.controller.cluster
    server = cluster.servers[server_id]
    peer = peer_table.peers.get(server_id)

    def used_bytes(tier: StorageTier) -> int:
        return sum(server.resident_bytes(tier, model) for model in cluster.checkpoints)

    return ServerStatus(
        id=server_id,
        num_gpus=server.spec.num_gpus,
        num_free=server.num_free,
        connected=peer is not None and peer.channel is not None,
        draining=server.draining,
        dram_used_bytes=used_bytes(DRAM),
        ssd_used_bytes=used_bytes(SSD),
    )
