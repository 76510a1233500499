"""The bound `pooled`: one machine G times as fast as a GPU, interruptible, without loads.

A request of service p on g GPUs is work g p / G. Preempting for the shortest work minimises the sum
of the mean busy times M_j over all schedules of such a machine, and a schedule on GPUs is one of
them: there M_j = S_j + p_j / 2. Hence sum (S_j - r_j) >= sum (M_j - p_j / 2 - r_j).
"""

from heapq import heappop, heappush

from experiments.reproduction.bounds.oracle import KnownRequest, Oracle


def pooled_bound_s(oracle: Oracle) -> float:
    """No policy that serves every request has a lower mean delay."""
    if not oracle.requests:
        return 0.0
    total_s = sum(_mean_busy_at_s(oracle))
    for request in oracle.requests:
        total_s -= request.service_s / 2 + request.arrived_at_s
    return max(0.0, total_s / len(oracle.requests))


def _mean_busy_at_s(oracle: Oracle) -> list[float]:
    """Of each request on the fast machine, shortest whole work first."""
    requests = sorted(oracle.requests, key=lambda request: request.arrived_at_s)
    works_s = [_work_s(request, oracle.num_gpus) for request in requests]
    left_s = list(works_s)
    moments = [0.0] * len(requests)  # integral of t over the time that each one runs
    waiting: list[tuple[float, int]] = []
    now_s, arrived = 0.0, 0
    while arrived < len(requests) or waiting:
        if not waiting:
            now_s = max(now_s, requests[arrived].arrived_at_s)
        while arrived < len(requests) and requests[arrived].arrived_at_s <= now_s:
            heappush(waiting, (works_s[arrived], arrived))
            arrived += 1
        first = waiting[0][1]
        run_s = left_s[first]
        if arrived < len(requests):
            run_s = min(run_s, requests[arrived].arrived_at_s - now_s)
        moments[first] += run_s * (now_s + run_s / 2)
        now_s += run_s
        left_s[first] -= run_s
        if left_s[first] <= 0.0:
            heappop(waiting)
    return [moment / work_s for moment, work_s in zip(moments, works_s, strict=True)]


def _work_s(request: KnownRequest, num_gpus: int) -> float:
    return request.checkpoint.num_gpus * request.service_s / num_gpus
