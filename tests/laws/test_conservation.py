"""Conservation laws: bytes and tokens are neither lost nor created.

Seeded bug that these tests have caught: a migration that loses a token. (Other tests catch a link
that is not shared again after a transfer was cancelled, `tests/sim/test_links.py`; an interrupt
that drops an iteration, `tests/sim/test_engine.py`; a cancelled load that keeps its place in the
queue, `tests/sim/test_loading.py`.)
"""

from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given

from sllmcore.events import InferenceFinished, LoadFinished
from sllmsim.links import Link, Links, Transfer
from tests.laws.cases import Case, cases
from tests.laws.runs import play


@given(cases(max_faults=6))
def test_links_have_carried_the_bytes_of_their_transfers(case: Case) -> None:
    """The bytes are counted when a transfer finishes or is cancelled, times its weight per link."""
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
        run = play(case)

    for link in run.cluster.all_links():
        assert link.transfers == {}
        assert link.bytes_moved == pytest.approx(carried[link])


@given(cases(max_faults=6))
def test_every_answer_has_the_tokens_that_its_job_asked_for(case: Case) -> None:
    """Migrations, preemptions and restarts do not change the number of tokens."""
    run = play(case)

    wanted = {job.request.id: job.output_tokens for job in case.jobs}
    for _, event, _ in run.log.entries:
        if isinstance(event, InferenceFinished):
            assert event.output_tokens == wanted[event.request_id]


@given(cases())
def test_a_load_is_never_faster_than_its_slowest_link(case: Case) -> None:
    """The lower bound is the number of bytes over the bandwidth of their source tier."""
    setup = replace(case.setup, storage_bytes_per_s=None)
    run = play(replace(case, setup=setup))

    for _, event, _ in run.log.entries:
        if isinstance(event, LoadFinished):
            per_s = {0: 4.0, 1: 8.0, 2: 16.0 * 4}[event.source]
            assert event.transfer_s >= event.num_bytes / per_s * (1 - 1e-9)
