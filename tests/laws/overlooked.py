"""No lost wake-ups: who waits, waits because there is no room."""

from sllmcore.cluster.state import ClusterState
from sllmcore.cluster.ticket import TicketState
from sllmcore.controller import Controller
from sllmcore.decisions import Launch, Start
from tests.laws.worlds import World


def can_be_asked_again(world: World) -> bool:
    """Whether a scheduler answers alike when asked twice: not if it draws lots or looks at a
    rotating few of the servers."""
    return world.policy.name != "serverless" and world.policy.max_candidates >= 4


def check_nobody_overlooked(controller: Controller, now_s: float) -> None:
    """Ask the scheduler about every waiting request: none may have somewhere to go at once."""
    cluster = controller.cluster
    assert isinstance(cluster, ClusterState)
    for ticket in cluster.tickets.values():
        if ticket.state is TicketState.WAITING:
            decision = controller._scheduler.decide(ticket.request, cluster, now_s)
            match decision:
                case Start(instance_id):  # one that is loading still will ask for it when ready
                    overlooked = cluster.instances[instance_id].ready
                case _:
                    overlooked = isinstance(decision, Launch)
            assert not overlooked, f"{ticket.request} waits, yet could {decision}"
