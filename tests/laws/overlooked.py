"""No lost wake-ups: who waits, waits because there is no room."""

from sllmcore.cluster.request_state import RequestPhase
from sllmcore.cluster.state import ClusterState
from sllmcore.controller import Controller
from sllmcore.decisions import Launch, Start
from tests.laws.worlds import World


def can_be_asked_again(world: World) -> bool:
    """Whether a scheduler answers alike when asked twice: not if it draws lots or looks at a
    rotating few of the servers."""
    return world.policy.name != "serverless" and world.policy.max_candidates >= 4


def check_nobody_overlooked(controller: Controller, now_s: float) -> None:
    """Ask the scheduler about every waiting request: none may have somewhere to go at once.

    Tolerated: an instance that is loading still will ask for the request when it is ready; and a
    request that waits for named servers is not told of a copy that has appeared on another one.
    """
    cluster = controller.cluster
    assert isinstance(cluster, ClusterState)
    for request_state in cluster.request_states.values():
        if request_state.phase is not RequestPhase.WAITING:
            continue
        decision = controller._dispatcher.scheduler.decide(request_state.request, cluster, now_s)
        message = f"{request_state.request} waits, yet could {decision}"
        if isinstance(decision, Start):
            assert not cluster.instances[decision.instance_id].ready, message
        if isinstance(decision, Launch):
            named = controller._pending._parked_at.get(request_state.request.id, ())
            there = [server_id for server_id in named if server_id in cluster.servers]
            assert there and decision.placement.server_id not in there, message
