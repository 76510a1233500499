"""What a leader answers an operator's commands."""

from typing import TYPE_CHECKING, assert_never

from sllmcore.errors import UsageError
from sllmcore.types import DRAM, SSD, StorageTier
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

if TYPE_CHECKING:
    from sllmreal.leader.leader import Leader


async def answer(leader: "Leader", asked: OperatorRequest) -> OperatorAnswer:
    """Do it, wait until it is durable, and say so."""
    try:
        match asked:
            case DeployModel(model):
                leader.deploy(model)
            case DeleteModel(name):
                leader.delete(name)
            case GetStatus():
                return status(leader)
            case _:
                assert_never(asked)
    except UsageError as error:
        return OperatorRefused(str(error))
    await leader.loop.durable()
    return OperatorDone()


def status(leader: "Leader") -> ClusterStatus:
    """The cluster as the controller believes it to be."""
    loop = leader.loop
    cluster = loop.controller.cluster
    return ClusterStatus(
        leader.term,
        loop.clock.now_s(),
        loop.controller.num_waiting,
        loop.num_events,
        loop.num_log_keys,
        leader.models(),
        tuple(_server(leader, server_id) for server_id in cluster.servers),
        tuple(
            InstanceStatus(
                one.id, one.model, one.server_id, one.gpu_indices, one.ready, len(one.requests)
            )
            for one in cluster.instances.values()
        ),
    )


def _server(leader: "Leader", server_id: str) -> ServerStatus:
    cluster = leader.loop.controller.cluster
    server = cluster.servers[server_id]
    peer = leader.peer_table.peers.get(server_id)

    def used_bytes(tier: StorageTier) -> int:
        return sum(server.resident_bytes(tier, model) for model in cluster.checkpoints)

    return ServerStatus(
        server_id,
        server.spec.num_gpus,
        server.num_free,
        peer is not None and peer.channel is not None,
        server.draining,
        used_bytes(DRAM),
        used_bytes(SSD),
    )
