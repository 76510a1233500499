"""The bytes that count in the tiers of a server: held, promised, taken back."""

import pytest

from sllmcore.errors import ControlError
from sllmcore.tier_ledger import TierLedger
from sllmcore.types import DRAM, SSD, Residency

BOTH = (DRAM, SSD)


def ledger_of(*resident: Residency) -> TierLedger:
    """Return the ledger of a server with 32 bytes of DRAM and 64 of SSD."""
    return TierLedger("s0", {DRAM: 32, SSD: 64}, resident)


def used(ledger: TierLedger) -> tuple[int, int]:
    return ledger.used_bytes(DRAM), ledger.used_bytes(SSD)


def test_promised_room_counts_as_used_and_bytes_that_are_there_as_held() -> None:
    ledger = ledger_of(Residency(SSD, "A", 8))
    ledger.promise("i1", "A", 16, BOTH)
    before = ledger.held_bytes(SSD, "A"), used(ledger)

    ledger.fill("i1")

    assert before == (8, (16, 16))
    assert (ledger.held_bytes(SSD, "A"), ledger.held_bytes(DRAM, "A")) == (16, 16)
    assert used(ledger) == (16, 16)


def test_a_tier_refuses_more_than_its_capacity_and_reserves_nothing_then() -> None:
    ledger = ledger_of(Residency(DRAM, "A", 16))
    ledger.promise("i1", "B", 16, (DRAM,))

    with pytest.raises(ControlError, match="DRAM of s0 holds 32 of 32 bytes; 1 of C do not fit"):
        ledger.promise("i2", "C", 1, (SSD, DRAM))

    assert used(ledger) == (32, 0)


def test_more_models_than_fit_are_refused_at_the_start() -> None:
    with pytest.raises(ControlError, match="20 of B do not fit"):
        ledger_of(Residency(DRAM, "A", 16), Residency(DRAM, "B", 20))


def test_a_load_that_ends_early_gives_its_room_back() -> None:
    ledger = ledger_of(Residency(SSD, "A", 8))
    ledger.promise("i1", "A", 16, BOTH)

    ledger.end("i1", acknowledged=False)

    assert used(ledger) == (0, 8)
    assert ledger.resident() == (Residency(SSD, "A", 8),)


def test_the_bytes_of_a_load_count_after_its_instance_if_the_load_was_acknowledged() -> None:
    ledger = ledger_of()
    ledger.promise("i1", "A", 16, BOTH)
    ledger.fill("i1")

    ledger.end("i1", acknowledged=True)

    assert ledger.resident() == (Residency(DRAM, "A", 16), Residency(SSD, "A", 16))


def test_the_bytes_of_a_load_that_was_not_acknowledged_are_taken_back() -> None:
    ledger = ledger_of(Residency(SSD, "A", 8))
    ledger.promise("i1", "A", 16, BOTH)
    ledger.fill("i1")

    ledger.end("i1", acknowledged=False)
    ledger.end("i1", acknowledged=False)

    assert ledger.resident() == (Residency(SSD, "A", 8),)
    assert used(ledger) == (0, 8)


def test_bytes_that_were_evicted_meanwhile_do_not_come_back() -> None:
    ledger = ledger_of(Residency(SSD, "A", 8))
    ledger.promise("i1", "A", 16, (SSD,))
    ledger.fill("i1")
    ledger.evict(SSD, "A", 4)

    ledger.end("i1", acknowledged=False)

    assert ledger.resident() == (Residency(SSD, "A", 4),)
    assert used(ledger) == (0, 4)


def test_an_eviction_returns_the_bytes_that_it_freed() -> None:
    ledger = ledger_of(Residency(DRAM, "A", 16))

    assert ledger.evict(DRAM, "A", 4) == 12
    assert ledger.evict(DRAM, "A", 4) == 0
    assert ledger.evict(DRAM, "B", 0) == 0
    assert used(ledger) == (4, 0)
    assert ledger.evict(DRAM, "A", 0) == 4
    assert ledger.resident() == ()
