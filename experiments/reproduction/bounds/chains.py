"""The bound `chains`: each request follows one predecessor on one of G pooled GPUs.

Let e_j be the earliest start of request j: its arrival or the earliest end of the first load of its
model, whichever is later. Behind request i, request j costs at least

    max(e_j - r_j, (e_i + p_i - r_j)^+ + [another model] load_j)

For policies that prewarm, the load begins when i has ended, even before j arrives: the second term
is then (e_i + p_i + [another model] load_j - r_j)^+. The cheapest assignment of different
predecessors, at most G of which are an empty GPU, is a linear assignment problem. An instance on g
GPUs is in g chains; its delay is at least the mean over them.

A request that times out costs the time-out. It has no successor: the program makes it its own
predecessor. Up to one inference per GPU may have been about to migrate for it; the GPUs that they
would have gone to may then serve other requests, in the middle of a load. The cost is reduced by
the time that this can save.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from experiments.reproduction.bounds.oracle import Oracle, earliest_starts_s, later_load_s
from sllmcore.errors import UsageError

MAX_LINKS = 12_000  # a dense matrix with 12,000 rows takes 1.2 GB

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Links:
    """Arrays with an entry for each request and each GPU of its instance."""

    request: NDArray[np.int64]
    model: NDArray[np.int64]
    arrived_at_s: Array
    earliest_at_s: Array
    service_s: Array
    load_s: Array
    weight: Array  # 1 / GPUs of the instance


def chains_bound_s(oracle: Oracle, timeout_s: float | None) -> float:
    """Return a lower bound on the mean delay of any policy.

    Raises:
        UsageError: There are more than `MAX_LINKS` requests times GPUs.
    """
    if not oracle.requests:
        return 0.0
    links = _links(oracle)
    num_links = len(links.model)
    if num_links > MAX_LINKS:
        raise UsageError(
            f"the bound `chains` takes at most {MAX_LINKS} requests times GPUs, got {num_links}: "
            "lower workload.max_requests"
        )
    costs = _costs(links, oracle.num_gpus, timeout_s, ahead=oracle.powers.ahead)
    rows, columns = linear_sum_assignment(costs)
    return float(costs[rows, columns].sum()) / len(oracle.requests)


def _links(oracle: Oracle) -> _Links:
    models = [model.checkpoint for model in oracle.setup.models]
    number = {checkpoint.model: i for i, checkpoint in enumerate(models)}
    num_gpus = np.array([checkpoint.num_gpus for checkpoint in models])
    load_s = np.array([later_load_s(oracle, checkpoint) for checkpoint in models])
    model = np.array([number[request.checkpoint.model] for request in oracle.requests])
    arrived = np.array([request.arrived_at_s for request in oracle.requests])
    service = np.array([request.service_s for request in oracle.requests])
    earliest = np.array(earliest_starts_s(oracle))
    each = np.repeat(np.arange(len(model)), num_gpus[model])
    return _Links(
        request=each,
        model=model[each],
        arrived_at_s=arrived[each],
        earliest_at_s=earliest[each],
        service_s=service[each],
        load_s=load_s[model][each],
        weight=1.0 / num_gpus[model][each],
    )


def _costs(links: _Links, num_gpus: int, timeout_s: float | None, *, ahead: bool) -> Array:
    """Return costs `(links, links + GPUs)`: behind each other link, or first on a GPU.

    A load of another model than the predecessor's begins when the GPU is free and, unless the
    policy prewarms, the request has arrived.
    """
    num_links = len(links.model)
    costs = np.empty((num_links, num_links + num_gpus))
    ends_at_s = links.earliest_at_s + links.service_s
    floor_s = links.earliest_at_s - links.arrived_at_s
    behind = costs[:, :num_links]
    loads_s = np.where(links.model[:, None] != links.model[None, :], links.load_s[:, None], 0.0)
    np.subtract(ends_at_s[None, :], links.arrived_at_s[:, None], out=behind)
    if ahead:
        behind += loads_s
    np.maximum(behind, 0.0, out=behind)
    if not ahead:
        behind += loads_s
    np.maximum(behind, floor_s[:, None], out=behind)
    costs[:, num_links:] = (floor_s if ahead else np.maximum(floor_s, links.load_s))[:, None]
    own: float | Array = float(ends_at_s.max() - links.arrived_at_s.min()) * 1e3 + 1e6  # forbids it
    if timeout_s is not None:
        own = np.maximum(0.0, timeout_s - links.load_s.max() / links.weight)
    behind[np.diag_indices(num_links)] = own
    costs *= links.weight[:, None]
    return costs
