"""What a run cost: the delay of its requests, from its request table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import fsum

from experiments.reproduction.bounds.oracle import Oracle
from sllmcore.errors import ControlError
from sllmcore.metrics.tables import Table


@dataclass(frozen=True, slots=True)
class RequestEnd:
    """How one request went."""

    id: str
    outcome: str
    arrived_at_s: float
    ended_at_s: float


def table_ends(requests: Table) -> list[RequestEnd]:
    """Of a simulation just run."""
    columns = requests.columns
    return [
        RequestEnd(str(name), str(outcome), arrived_at_s, ended_at_s)
        for name, outcome, arrived_at_s, ended_at_s in zip(
            columns["request_id"],
            columns["outcome"],
            requests.numbers("arrived_at_s"),
            requests.numbers("ended_at_s"),
            strict=True,
        )
    ]


def mean_delay_s(oracle: Oracle, ends: Iterable[RequestEnd]) -> float:
    """Completion minus arrival minus service; a time-out counts with the time it waited.

    Raises:
        ControlError: A request of the oracle's has no end, or one that the bounds do not cover.
    """
    services_s = {request.id: request.service_s for request in oracle.requests}
    delays_s = [_delay_s(end, services_s) for end in ends]
    if len(delays_s) != len(services_s):
        raise ControlError(f"{len(services_s)} requests were to end, {len(delays_s)} did")
    return fsum(delays_s) / len(delays_s) if delays_s else 0.0


def _delay_s(end: RequestEnd, services_s: Mapping[str, float]) -> float:
    passed_s = end.ended_at_s - end.arrived_at_s
    if end.outcome == "timed_out":
        return passed_s
    if end.outcome != "completed":
        raise ControlError(f"{end.id} was {end.outcome}: the bounds say nothing about that")
    return passed_s - services_s[end.id]
