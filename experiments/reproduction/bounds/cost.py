"""The cost of a run: the delay of its requests, from its request table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import fsum

from experiments.reproduction.bounds.oracle import Oracle
from sllmcore.errors import ControlError
from sllmcore.metrics.tables import Table


@dataclass(frozen=True, slots=True)
class RequestEnd:
    """The outcome of a request."""

    id: str
    outcome: str
    arrived_at_s: float
    ended_at_s: float


def table_ends(requests: Table) -> list[RequestEnd]:
    """Return the ends of the requests in a simulation's table."""
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
    """Return the mean of completion - arrival - service; a time-out counts with its wait.

    Raises:
        ControlError: A request of the oracle has no end, or an outcome without a bound.
    """
    services_s = {request.id: request.service_s for request in oracle.requests}
    delays_s = [_delay_s(end, services_s) for end in ends]
    if len(delays_s) != len(services_s):
        raise ControlError(f"expected the ends of {len(services_s)} requests, got {len(delays_s)}")
    return fsum(delays_s) / len(delays_s) if delays_s else 0.0


def _delay_s(end: RequestEnd, services_s: Mapping[str, float]) -> float:
    passed_s = end.ended_at_s - end.arrived_at_s
    if end.outcome == "timed_out":
        return passed_s
    if end.outcome != "completed":
        raise ControlError(
            f"{end.id} was {end.outcome}: bounds hold for completed and timed_out only"
        )
    return passed_s - services_s[end.id]
