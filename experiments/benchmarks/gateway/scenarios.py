"""Scenarios of overload: open-loop arrivals at a rate, and other clients connected meanwhile.

Open loop: a request is sent when it is due, however many are unanswered. Goodput counts complete
responses with a first token within `slo_s` of the due time.
"""

import asyncio
import time
from dataclasses import dataclass
from random import Random
from statistics import quantiles

from experiments.benchmarks.gateway.clients import (
    ClientOutcome,
    open_idle,
    send_and_disconnect,
    send_and_read_nothing,
    send_request,
)
from experiments.benchmarks.gateway.fixed_backend import Capacity
from experiments.benchmarks.gateway.server import ServedGateway


@dataclass(frozen=True, slots=True)
class Scenario:
    """The requests offered, as a multiple of the backend's capacity, and the other clients."""

    name: str
    load: float
    num_idle: int = 0
    num_slow: int = 0
    leaving_share: float = 0.0  # additional requests that disconnect early, per offered request


SCENARIOS = (
    Scenario("0.9x", 0.9),
    Scenario("1x", 1.0),
    Scenario("2x", 2.0),
    Scenario("10x", 10.0),
    Scenario("2x, 5,000 idle", 2.0, num_idle=5_000),
    Scenario("2x, 50 slow readers", 2.0, num_slow=50),
    Scenario("2x, a third leaves", 2.0, leaving_share=0.5),
    Scenario("10x, all of it", 10.0, num_idle=5_000, num_slow=50, leaving_share=0.5),
)


@dataclass(frozen=True, slots=True)
class GatewayRow:
    """The result of a scenario in one round."""

    scenario: str
    round: int
    offered_per_s: float
    goodput_per_s: float
    of_capacity: float
    completed: int
    refused: int  # 429 with Retry-After
    other: int
    first_token_p50_s: float
    first_token_p99_s: float
    refusal_p99_s: float
    late_p99_s: float  # delay of the load generator itself
    rss_bytes: int
    cpu_share: float  # of one core, by the gateway
    cpu_ms_per_request: float  # per offered request, admitted or refused


async def measure(
    served: ServedGateway, capacity: Capacity, scenario: Scenario, schedule: "Schedule"
) -> GatewayRow:
    """Run a scenario: a warm-up of `schedule.duration_s` / 4, then measure for that time."""
    connections = await open_idle(served.address, scenario.num_idle)
    slow = [
        asyncio.create_task(send_and_read_nothing(served.address)) for _ in range(scenario.num_slow)
    ]
    warm_s = schedule.duration_s / 4
    began_s = time.monotonic() + warm_s
    cpu = asyncio.create_task(_cpu_between(served, began_s, schedule.duration_s))
    try:
        outcomes, late = await _offer(
            served=served, capacity=capacity, scenario=scenario, schedule=schedule, began_s=began_s
        )
    finally:
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        for writer in connections:
            writer.transport.abort()
    return _row(
        scenario=scenario,
        schedule=schedule,
        capacity=capacity,
        outcomes=outcomes,
        observed=(late, served.rss_bytes, await cpu),
    )


@dataclass(frozen=True, slots=True)
class Schedule:
    """Duration, objective of the first token, and round, which seeds the arrivals."""

    duration_s: float
    slo_s: float
    round: int


async def _offer(
    served: ServedGateway,
    capacity: Capacity,
    scenario: Scenario,
    schedule: Schedule,
    began_s: float,
) -> tuple[list[ClientOutcome], list[float]]:
    """Send requests when they are due; return the outcomes of the measured ones, and all delays."""
    random = Random(schedule.round)  # noqa: S311 - arrivals, no secret
    rate_per_s = scenario.load * capacity.requests_per_s
    measured: list[asyncio.Task[ClientOutcome]] = []
    rest: set[asyncio.Task[object]] = set()
    late = []
    due_s, end_s = time.monotonic(), began_s + schedule.duration_s
    while (due_s := due_s + random.expovariate(rate_per_s)) < end_s:
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        late.append(time.monotonic() - due_s)
        sending = asyncio.create_task(send_request(served.address, capacity.tokens, due_s))
        if due_s >= began_s:
            measured.append(sending)
        else:
            _keep(rest, sending)
        if random.random() < scenario.leaving_share:
            _keep(
                rest, asyncio.create_task(send_and_disconnect(served.address, capacity.tokens, 0.3))
            )
    outcomes = await asyncio.gather(*measured)
    await asyncio.gather(*rest)
    return outcomes, late


def _keep(tasks: "set[asyncio.Task[object]]", task: "asyncio.Task[object]") -> None:
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _cpu_between(served: ServedGateway, began_s: float, duration_s: float) -> float:
    await asyncio.sleep(max(0.0, began_s - time.monotonic()))
    before_s, from_s = served.cpu_s, time.monotonic()
    await asyncio.sleep(duration_s)
    return (served.cpu_s - before_s) / (time.monotonic() - from_s)


def _row(
    scenario: Scenario,
    schedule: Schedule,
    capacity: Capacity,
    outcomes: list[ClientOutcome],
    observed: tuple[list[float], int, float],
) -> GatewayRow:
    late, rss_bytes, cpu_share = observed
    completed = [one for one in outcomes if one.status == 200 and one.complete]
    refused = [one for one in outcomes if one.status == 429 and one.retry_after]
    firsts = [one.first_token_s for one in completed if one.first_token_s is not None]
    good = sum(first_s <= schedule.slo_s for first_s in firsts) / schedule.duration_s
    return GatewayRow(
        scenario=scenario.name,
        round=schedule.round,
        offered_per_s=len(outcomes) / schedule.duration_s,
        goodput_per_s=good,
        of_capacity=good / capacity.requests_per_s,
        completed=len(completed),
        refused=len(refused),
        other=len(outcomes) - len(completed) - len(refused),
        first_token_p50_s=_quantile(firsts, 50),
        first_token_p99_s=_quantile(firsts, 99),
        refusal_p99_s=_quantile([one.whole_s for one in refused], 99),
        late_p99_s=_quantile(late, 99),
        rss_bytes=rss_bytes,
        cpu_share=cpu_share,
        cpu_ms_per_request=1e3 * cpu_share * schedule.duration_s / max(1, len(outcomes)),
    )


def _quantile(values: list[float], percent: int) -> float:
    """Return a percentile; 0 for fewer than two values."""
    return quantiles(values, n=100)[percent - 1] if len(values) > 1 else 0.0
