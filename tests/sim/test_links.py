"""Shared links: all rates are max-min fair at every instant, and no byte is lost."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sllmcore.errors import UsageError
from sllmsim.clock import SimClock
from sllmsim.links import Hop, Link, Links, Transfer
from tests.sim.fluid import Flow, Fluid

CAPACITIES = st.sampled_from([1.0, 2.0, 3.0, 8.0])
WEIGHTS = st.sampled_from([0.25, 0.5, 1.0, 2.0])
QUARTERS = st.integers(0, 20).map(lambda n: n / 4)


@st.composite
def fluids(draw: st.DrawFn) -> Fluid:
    links = draw(st.lists(CAPACITIES, min_size=1, max_size=4))
    index = st.integers(0, len(links) - 1)
    flow = st.builds(
        Flow,
        st.sampled_from([0.5, 1.0, 3.0, 8.0, 20.0]),
        st.dictionaries(index, WEIGHTS, min_size=1, max_size=3),
        st.sampled_from([inf, inf, 0.5, 2.0]),
        QUARTERS,
    )
    flows = draw(st.lists(flow, min_size=1, max_size=7))
    # Off the grid: if a link stops exactly at the end of a transfer, either may come first.
    moments = QUARTERS.map(lambda at_s: at_s + 0.0137)
    change = st.tuples(moments, index, st.sampled_from([0.0, 0.5, 1.0, 4.0]))
    changes = draw(st.lists(change, max_size=4, unique_by=lambda c: c[0]))
    # Links that stopped work again in the end, so that all bytes arrive.
    restored = [(6.0 + i / 4, i, capacity) for i, capacity in enumerate(links)]
    return Fluid(links, flows, [*changes, *restored])


def simulated(fluid: Fluid) -> tuple[list[float | None], list[Link]]:
    """Return the end of each flow as `Links` simulates it, and the links."""
    clock = SimClock()
    sharing, links = Links(clock), [Link(f"l{i}", rate) for i, rate in enumerate(fluid.links)]
    done: list[float | None] = [None] * len(fluid.flows)

    def begin(number: int) -> None:
        flow = fluid.flows[number]
        hops = tuple(Hop(links[i], weight) for i, weight in flow.hops.items())

        def arrived() -> None:
            done[number] = clock.now

        sharing.start(flow.num_bytes, hops, arrived, flow.limit)

    for at_s, link, rate in fluid.changes:
        clock.call_at(at_s, lambda _, i=link, r=rate: sharing.set_bandwidth(links[i], r))  # type: ignore[misc]
    for number, flow in enumerate(fluid.flows):
        clock.call_at(flow.begins_at_s, lambda _, n=number: begin(n))  # type: ignore[misc]
    clock.run()
    return done, links


@given(fluids())
def test_every_transfer_ends_at_the_time_of_progressive_filling_from_scratch(fluid: Fluid) -> None:
    done, _ = simulated(fluid)

    fluid.run()

    assert done == [pytest.approx(flow.done_at_s, rel=1e-9, abs=1e-9) for flow in fluid.flows]


@given(fluids())
def test_the_bytes_that_links_carried_are_those_of_their_transfers(fluid: Fluid) -> None:
    _, links = simulated(fluid)

    for index, link in enumerate(links):
        sent = sum(flow.num_bytes * flow.hops.get(index, 0.0) for flow in fluid.flows)
        assert link.bytes_moved == pytest.approx(sent)
        assert link.transfers == {} and link.demand_bytes_per_s == 0.0


def nothing() -> None:
    pass


def test_two_transfers_on_one_link_get_half_each() -> None:
    clock = SimClock()
    links, link = Links(clock), Link("nic", 4.0)

    first = links.start(8.0, (Hop(link),), nothing)
    second = links.start(8.0, (Hop(link),), nothing)

    assert (first.rate_bytes_per_s, second.rate_bytes_per_s) == (2.0, 2.0)


def test_bandwidth_that_a_slow_sender_leaves_goes_to_the_other_transfer() -> None:
    clock = SimClock()
    links, link = Links(clock), Link("nic", 4.0)

    slow = links.start(8.0, (Hop(link),), nothing, limit_bytes_per_s=1.0)
    fast = links.start(8.0, (Hop(link),), nothing)

    assert (slow.rate_bytes_per_s, fast.rate_bytes_per_s) == (1.0, 3.0)


def test_a_transfer_to_two_gpus_puts_half_its_bytes_on_each_of_their_links() -> None:
    clock = SimClock()
    links, ssd, pcie = Links(clock), Link("ssd", 10.0), [Link("p0", 4.0), Link("p1", 4.0)]

    both = links.start(80.0, (Hop(ssd), Hop(pcie[0], 0.5), Hop(pcie[1], 0.5)), nothing)
    one = links.start(80.0, (Hop(pcie[0]),), nothing)

    # rates grow together to 8/3, where 0.5 r + r = 4
    assert both.rate_bytes_per_s == pytest.approx(8 / 3)
    assert one.rate_bytes_per_s == pytest.approx(8 / 3)


def test_stopping_a_transfer_returns_its_bytes_and_frees_its_share() -> None:
    clock = SimClock()
    links, link = Links(clock), Link("nic", 4.0)
    ended: list[float] = []
    kept = links.start(8.0, (Hop(link),), lambda: ended.append(clock.now))
    broken = links.start(8.0, (Hop(link),), nothing)
    arrived: list[float] = []
    clock.call_at(1.0, lambda _: arrived.append(links.stop(broken)))
    clock.call_at(1.0, lambda _: arrived.append(kept.rate_bytes_per_s))

    clock.run()

    assert arrived == [2.0, 4.0]
    assert link.bytes_moved == 8.0 + 2.0
    assert ended == [1.0 + 6.0 / 4.0]


def test_a_link_that_stops_holds_its_transfers_until_it_works_again() -> None:
    clock = SimClock()
    links, link = Links(clock), Link("nic", 4.0)
    done: list[float] = []
    links.start(8.0, (Hop(link),), lambda: done.append(clock.now))
    clock.call_at(1.0, lambda _: links.set_bandwidth(link, 0.0))
    clock.call_at(5.0, lambda _: links.set_bandwidth(link, 4.0))

    clock.run()

    assert done == [6.0]


def test_a_transfer_that_begins_on_a_stopped_link_waits() -> None:
    clock = SimClock()
    links, link = Links(clock), Link("nic", 4.0)
    done: list[float] = []
    links.set_bandwidth(link, 0.0)
    begun: list[Transfer] = [links.start(8.0, (Hop(link),), lambda: done.append(clock.now))]
    clock.call_at(3.0, lambda _: links.set_bandwidth(link, 8.0))

    clock.run()

    assert begun[0].remaining_bytes == 0.0
    assert done == [4.0]


def test_no_bytes_take_no_time() -> None:
    clock = SimClock()
    done: list[float] = []
    Links(clock).start(0.0, (Hop(Link("nic", 4.0)),), lambda: done.append(clock.now))

    clock.run()

    assert done == [0.0]


@pytest.mark.parametrize("bytes_per_s", [0.0, -1.0, float("nan")])
def test_a_bandwidth_must_be_positive(bytes_per_s: float) -> None:
    with pytest.raises(UsageError, match="bandwidth of nic"):
        Link("nic", bytes_per_s)
