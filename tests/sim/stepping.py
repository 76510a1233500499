"""A reference engine with an event per iteration: slow and simple."""

from collections.abc import Sequence
from dataclasses import dataclass

from sllmsim.timing import InferenceTiming, step_s


@dataclass(slots=True)
class Asked:
    """A request for the engine, with the instants of its first and its last token."""

    arrives_at_s: float
    input_tokens: int
    output_tokens: int
    made: int = 0
    first_token_at_s: float = 0.0
    finished_at_s: float = 0.0


def step_by_step(timing: InferenceTiming, requests: Sequence[Asked]) -> int:
    """Play the requests. Return the number of iterations.

    Between two iterations a request that waits is prefilled; then all decode.
    """
    waiting = sorted(requests, key=lambda request: request.arrives_at_s)
    batch: list[Asked] = []
    now_s, iterations = 0.0, 0
    while waiting or batch:
        if not batch and waiting[0].arrives_at_s > now_s:
            now_s = waiting[0].arrives_at_s
        if waiting and waiting[0].arrives_at_s <= now_s:
            joining = waiting.pop(0)
            now_s += timing.prefill_s(joining.input_tokens)
            joining.made, joining.first_token_at_s = 1, now_s
            batch.append(joining)
        else:
            context = sum(request.input_tokens + request.made for request in batch)
            now_s += step_s(timing, len(batch), context)
            iterations += 1
            for request in batch:
                request.made += 1
        for request in [r for r in batch if r.made == r.output_tokens]:
            request.finished_at_s = now_s
            batch.remove(request)
    return iterations
