"""The bound `pooled`: one machine G times as fast as a GPU, with preemption and without loads.

A request with service time p on g GPUs is work g p / G. Preemptive shortest-work-first minimises
the sum of the mean busy times M_j over all schedules of this machine. A schedule on GPUs is one of
them, with M_j = S_j + p_j / 2. Hence sum (S_j - r_j) >= sum (M_j - p_j / 2 - r_j).
"""

from heapq import heappop, heappush

from experiments.reproduction.bounds.oracle import KnownRequest, Oracle


def pooled_bound_s(oracle: Oracle) -> float:
    """Return a lower bound on the mean delay of any policy that serves every request."""
    if not oracle.requests:
        return 0.0
    total_s = sum(_mean_busy_at_s(oracle))
    for request in oracle.requests:
        total_s -= request.service_s / 2 + request.arrived_at_s
    return max(0.0, total_s / len(oracle.requests))


def _mean_busy_at_s(oracle: Oracle) -> list[float]:
    """Return the mean busy time of each request on the fast machine, by shortest work first."""
    requests = sorted(oracle.requests, key=lambda request: request.arrived_at_s)
    works_s = [_work_s(request, oracle.num_gpus) for request in requests]
    left_s = list(works_s)
    moments = [0.0] * len(requests)  # integral of t over the time that each request runs
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
