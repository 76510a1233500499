"""Missed starts: a request must not wait if it could start at once."""

from sllmcore.cluster.request_state import RequestPhase
from sllmcore.cluster.state import ClusterState
from sllmcore.controller import Controller
from sllmcore.decisions import Launch, Start
from tests.laws.cases import Case


def decides_repeatably(case: Case) -> bool:
    """Return True if the scheduler decides the same when it is asked twice.

    It does not if it draws random numbers or considers a rotating selection of the servers.
    """
    return case.policy.name != "serverless" and case.policy.max_candidates >= 4


def check_no_missed_start(controller: Controller, now_s: float) -> None:
    """Ask the scheduler about every waiting request; fail if one could start at once.

    Two cases are permitted: an instance that loads takes the request when it is ready; and a
    request that is parked at servers may miss a launch on another server.
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
