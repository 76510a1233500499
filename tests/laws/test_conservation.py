"""Bytes and tokens are neither lost nor made.

Seeded bug that these tests have caught: a migration that forgets a token. (A link that is not
shared again when a transfer is broken off is caught by `tests/sim/test_links.py`, an interrupt that
drops an iteration by `tests/sim/test_engine.py`, a broken-off load that keeps its turn by
`tests/sim/test_loading.py`.)
"""

from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given

from sllmcore.events import InferenceFinished, LoadFinished
from sllmsim.links import Link, Links, Transfer
from tests.laws.runs import play
from tests.laws.worlds import World, worlds


@given(worlds(max_faults=6))
def test_links_have_carried_what_their_transfers_brought(world: World) -> None:
    """Bytes that arrived, counted where transfers end and are broken off, times their weights."""
    carried: dict[Link, float] = defaultdict(float)

    def count(transfer: Transfer, num_bytes: float) -> None:
        for hop in transfer.hops:
            carried[hop.link] += num_bytes * hop.weight

    finish, stop = Links._finish, Links.stop

    def finishing(links: Links, transfer: Transfer) -> None:
        count(transfer, transfer.num_bytes)
        finish(links, transfer)

    def stopping(links: Links, transfer: Transfer) -> float:
        arrived = stop(links, transfer)
        assert 0 <= arrived <= transfer.num_bytes
        count(transfer, arrived)
        return arrived

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Links, "_finish", finishing)
        patch.setattr(Links, "stop", stopping)
        run = play(world)

    for link in run.cluster.all_links():
        assert link.transfers == {}
        assert link.bytes_moved == pytest.approx(carried[link])


@given(worlds(max_faults=6))
def test_every_answer_has_the_tokens_that_its_job_asked_for(world: World) -> None:
    """However often it was moved, preempted or started again."""
    run = play(world)

    wanted = {job.request.id: job.output_tokens for job in world.jobs}
    for _, event, _ in run.log.entries:
        if isinstance(event, InferenceFinished):
            assert event.output_tokens == wanted[event.request_id]


@given(worlds())
def test_a_load_is_never_faster_than_its_slowest_link(world: World) -> None:
    """Physics as a bound on truth: bytes over the bandwidth of the tier that they came from."""
    setup = replace(world.setup, storage_bytes_per_s=None)
    run = play(replace(world, setup=setup))

    for _, event, _ in run.log.entries:
        if isinstance(event, LoadFinished):
            per_s = {0: 4.0, 1: 8.0, 2: 16.0 * 4}[event.source]
            assert event.transfer_s >= event.num_bytes / per_s * (1 - 1e-9)
