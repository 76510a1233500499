"""A simulated server refuses wrong orders, and loses bytes in a crash, as a real one does."""

import pytest

from sllmcore.errors import ControlError, UsageError
from sllmcore.types import Checkpoint, StorageTier
from sllmsim.server import SimServer
from sllmsim.setup import SimServerSetup, SimSetup
from tests.builders import hardware_of, in_dram, on_ssd, setup_of

DRAM, SSD = StorageTier.DRAM, StorageTier.SSD


def server_of(num_gpus: int = 2, **kwargs: int) -> SimServer:
    resident = (in_dram("A", 16), on_ssd("A", 16), on_ssd("B", 8))
    return SimServer(SimServerSetup("s0", hardware_of(num_gpus, 32, 64), resident))


def test_a_gpu_refuses_a_second_occupant() -> None:
    server = server_of()
    server.occupy((0, 1), "i1")

    with pytest.raises(ControlError, match="GPU 1 of s0 is held by i1, i2 cannot have it"):
        server.occupy((1,), "i2")


def test_a_gpu_that_was_vacated_takes_another() -> None:
    server = server_of()
    server.occupy((0, 1), "i1")
    server.vacate("i1")

    server.occupy((1,), "i2")

    assert not server.empty


def test_an_eviction_keeps_the_given_bytes_and_frees_the_rest() -> None:
    server = server_of()

    server.evict(DRAM, "A", 4)

    assert server.tiers.held_bytes(DRAM, "A") == 4
    assert server.tiers.used_bytes(DRAM) == 4


def test_an_eviction_that_frees_no_bytes_is_refused() -> None:
    with pytest.raises(ControlError, match="nothing to evict"):
        server_of().evict(DRAM, "B", 0)


def test_a_crash_leaves_the_ssd_tier_and_empty_gpus() -> None:
    server = server_of()
    server.occupy((0,), "i1")
    server.tiers.promise("i1", "C", 16, (SSD,))

    server.crash()

    assert server.tiers.resident() == (on_ssd("A", 16), on_ssd("B", 8))
    assert server.empty
    assert (server.tiers.used_bytes(DRAM), server.tiers.used_bytes(SSD)) == (0, 24)


def test_a_server_declares_its_hardware() -> None:
    spec = server_of().hardware.spec("s0")

    assert (spec.num_gpus, spec.dram_bytes, spec.ssd_bytes) == (2, 32, 64)
    assert (spec.remote_bytes_per_s, spec.ssd_bytes_per_s, spec.dram_bytes_per_s) == (4, 8, 16)


def test_each_byte_for_several_gpus_crosses_one_of_their_links() -> None:
    hops = server_of().to_gpus((0, 1))

    assert [(hop.link.name, hop.weight) for hop in hops] == [("s0/pcie0", 0.5), ("s0/pcie1", 0.5)]


def test_gpus_behind_one_uplink_share_it() -> None:
    from dataclasses import replace

    hardware = replace(hardware_of(4), gpus_per_uplink=2)
    server = SimServer(SimServerSetup("s0", hardware))

    pair, across = server.to_gpus((0, 1)), server.to_gpus((1, 2))

    assert [(h.link.name, h.weight) for h in pair][2:] == [("s0/uplink0", 1.0)]
    assert [(h.link.name, h.weight) for h in across][2:] == [
        ("s0/uplink0", 0.5),
        ("s0/uplink2", 0.5),
    ]


def test_a_model_that_fits_on_no_server_is_refused_before_the_run() -> None:
    servers = [SimServerSetup("s0", hardware_of(2))]

    with pytest.raises(UsageError, match="W fits on no server: 65 bytes on 2 GPUs"):
        setup_of(servers, [Checkpoint("W", 65, 2)])
    with pytest.raises(UsageError, match="fits on no server"):
        setup_of(servers, [Checkpoint("W", 3, 3)])


def test_names_are_unique_and_a_cluster_is_not_empty() -> None:
    server = SimServerSetup("s0", hardware_of())

    with pytest.raises(UsageError, match="unique"):
        setup_of([server, server], [Checkpoint("A", 1)])
    with pytest.raises(UsageError, match="at least one"):
        SimSetup((), ())
