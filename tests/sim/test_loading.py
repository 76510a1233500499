"""Loads: turns on a path, bytes from several tiers at once, phases, and cancelled loads."""

from dataclasses import dataclass, field

import pytest

from sllmcore.commands import LaunchInstance
from sllmcore.events import LoadFinished
from sllmcore.types import Checkpoint, LoadEstimate, Residency, StorageTier
from sllmsim.clock import SimClock
from sllmsim.links import Links
from sllmsim.loading import Loading
from sllmsim.phases import Duration, Order, PhaseKind, PhaseModel, PhaseSpec
from sllmsim.server import SimServer
from sllmsim.setup import LoaderProfile, SimServerSetup, SimSetup
from tests.builders import hardware_of, in_dram, on_ssd, setup_of

REMOTE, SSD, DRAM = StorageTier.REMOTE, StorageTier.SSD, StorageTier.DRAM
A, B, WIDE = Checkpoint("A", 32), Checkpoint("B", 32), Checkpoint("W", 32, 2)
ESTIMATE = LoadEstimate(REMOTE, 0.0, 0.0, 0.0)


def setup(phases: PhaseModel | None = None, loader: LoaderProfile | None = None) -> SimSetup:
    plain = setup_of([SimServerSetup("s0", hardware_of(2))], [A, B, WIDE])
    return SimSetup(
        plain.servers,
        plain.models,
        phases=phases or plain.phases,
        loader=loader or plain.loader,
    )


@dataclass
class Bench:
    """A server with two GPUs and a loader on it."""

    resident: tuple[Residency, ...] = ()
    setup: SimSetup = field(default_factory=setup)

    def __post_init__(self) -> None:
        self.clock = SimClock()
        self.finished: list[tuple[float, LoadFinished]] = []
        self.server = SimServer(SimServerSetup("s0", hardware_of(2), self.resident))
        self.loading = Loading(
            clock=self.clock,
            links=Links(self.clock),
            setup=self.setup,
            on_ready=self._ready,
            retime=lambda *_: None,
        )

    def _ready(self, event: LoadFinished) -> None:
        self.finished.append((self.clock.now, event))
        self.loading.acknowledge_load(event.instance_id)

    def load(
        self,
        instance_id: str,
        checkpoint: Checkpoint,
        gpus: tuple[int, ...] = (0,),
        after: str | None = None,
        cache_in: tuple[StorageTier, ...] = (),
    ) -> None:
        command = LaunchInstance(
            id=1,
            instance_id=instance_id,
            model=checkpoint.model,
            server_id="s0",
            gpu_indices=gpus,
            estimate=ESTIMATE,
            cache_in=cache_in,
            after=after,
        )
        self.loading.begin(command, checkpoint, self.server)

    def cancel(self, at_s: float, instance_id: str) -> None:
        def cancelled(_: object) -> None:
            self.loading.cancel(instance_id)

        self.clock.call_at(at_s, cancelled)

    def times(self) -> dict[str, float]:
        return {event.instance_id: at_s for at_s, event in self.finished}


@pytest.mark.parametrize(
    ("resident", "source", "num_bytes", "seconds"),
    [
        ((), REMOTE, 32, 8.0),
        ((on_ssd("A", 32),), SSD, 32, 4.0),
        ((in_dram("A", 32),), DRAM, 32, 2.0),
        ((on_ssd("A", 16),), REMOTE, 16, 4.0),
        ((in_dram("A", 16), on_ssd("A", 32)), SSD, 16, 2.0),
        ((in_dram("A", 16),), REMOTE, 16, 4.0),
    ],
)
def test_bytes_come_from_all_tiers_at_once(
    resident: tuple[Residency, ...], source: StorageTier, num_bytes: int, seconds: float
) -> None:
    bench = Bench(resident)
    bench.load("i1", A)

    bench.clock.run()

    assert bench.finished == [
        (
            seconds,
            LoadFinished(
                instance_id="i1",
                source=source,
                num_bytes=num_bytes,
                transfer_s=seconds,
                startup_s=0.0,
            ),
        )
    ]


def test_a_model_on_two_gpus_comes_over_both_of_their_links() -> None:
    bench = Bench((in_dram("W", 32),))
    bench.load("i1", WIDE, (0, 1))

    bench.clock.run()

    assert bench.times() == {"i1": 1.0}


def test_loads_on_one_path_take_turns() -> None:
    bench = Bench((on_ssd("A", 32), on_ssd("B", 32)))
    bench.load("i1", A)
    bench.load("i2", B, (1,), after="i1")

    bench.clock.run()

    assert bench.times() == {"i1": 4.0, "i2": 8.0}
    assert bench.finished[1][1].transfer_s == 4.0  # waiting for its turn is not transfer


def test_loads_without_turns_share_the_path() -> None:
    bench = Bench((on_ssd("A", 32), on_ssd("B", 32)))
    bench.load("i1", A)
    bench.load("i2", B, (1,))

    bench.clock.run()

    assert bench.times() == {"i1": 8.0, "i2": 8.0}


def test_when_the_load_ahead_is_cancelled_the_next_has_its_turn() -> None:
    bench = Bench((on_ssd("A", 32), on_ssd("B", 32)))
    bench.load("i1", A)
    bench.load("i2", B, (1,), after="i1")
    bench.cancel(1.0, "i1")

    bench.clock.run()

    assert bench.times() == {"i2": 5.0}
    assert bench.server.ssd_read.bytes_moved == 8 + 32


def test_when_a_load_in_the_middle_is_cancelled_the_order_stays() -> None:
    bench = Bench((on_ssd("A", 32), on_ssd("B", 32), on_ssd("W", 32)))
    bench.load("i1", A)
    bench.load("i2", B, (1,), after="i1")
    bench.load("i3", WIDE, (0, 1), after="i2")
    bench.cancel(1.0, "i2")

    bench.clock.run()

    assert bench.times() == {"i1": 4.0, "i3": 8.0}


def test_a_load_after_one_that_is_over_has_its_turn_at_once() -> None:
    bench = Bench((on_ssd("A", 32), on_ssd("B", 32)))
    bench.load("i1", A)
    bench.clock.call_at(6.0, lambda _: bench.load("i2", B, (1,), after="i1"))

    bench.clock.run()

    assert bench.times() == {"i1": 4.0, "i2": 10.0}


def test_bytes_are_cached_when_the_load_is_over_and_not_earlier() -> None:
    bench, held = Bench((on_ssd("A", 32),)), []
    bench.load("i1", A, cache_in=(DRAM,))
    bench.clock.call_at(3.9, lambda _: held.append(bench.server.tiers.held_bytes(DRAM, "A")))

    bench.clock.run()

    assert [*held, bench.server.tiers.held_bytes(DRAM, "A")] == [0, 32]


def test_a_cancelled_load_leaves_no_bytes_and_releases_its_room() -> None:
    bench = Bench((on_ssd("A", 32),))
    bench.load("i1", A, cache_in=(DRAM,))
    bench.cancel(3.0, "i1")

    bench.clock.run()

    assert bench.finished == []
    assert bench.server.tiers.held_bytes(DRAM, "A") == 0
    bench.server.tiers.promise("i2", "B", 64, (DRAM,))


def test_cancelling_an_unknown_load_returns_false() -> None:
    assert Bench().loading.cancel("i9") is False


def phased(order: Order) -> SimSetup:
    spec = PhaseSpec(PhaseKind.ENGINE_INIT, order, Duration(3.0), "none")
    return setup(PhaseModel("phased", (spec,)))


@pytest.mark.parametrize(
    ("order", "ready_at_s", "startup_s"),
    [(Order.BEFORE, 5.0, 3.0), (Order.OVERLAPPED, 3.0, 1.0), (Order.AFTER, 5.0, 3.0)],
)
def test_phases_come_before_beside_or_after_the_bytes(
    order: Order, ready_at_s: float, startup_s: float
) -> None:
    bench = Bench((in_dram("A", 32),), phased(order))
    bench.load("i1", A)

    bench.clock.run()

    assert bench.finished == [
        (
            ready_at_s,
            LoadFinished(
                instance_id="i1", source=DRAM, num_bytes=32, transfer_s=2.0, startup_s=startup_s
            ),
        )
    ]


def test_phases_before_the_bytes_run_while_other_loads_have_their_turn() -> None:
    bench = Bench((on_ssd("A", 32), on_ssd("B", 32)), phased(Order.BEFORE))
    bench.load("i1", A)
    bench.load("i2", B, (1,), after="i1")

    bench.clock.run()

    assert bench.times() == {"i1": 7.0, "i2": 11.0}
    assert [event.startup_s for _, event in bench.finished] == [3.0, 3.0]


def test_a_loader_without_a_pipeline_writes_the_download_first_and_reads_it_then() -> None:
    bench = Bench((), setup(loader=LoaderProfile(pipelined=False)))
    bench.load("i1", A)

    bench.clock.run()

    assert bench.times() == {"i1": 8.0 + 4.0}
    assert (bench.server.ssd_write.bytes_moved, bench.server.ssd_read.bytes_moved) == (32, 32)


def test_an_inefficient_loader_is_slower_by_its_share() -> None:
    bench = Bench((on_ssd("A", 32),), setup(loader=LoaderProfile(ssd_efficiency=0.5)))
    bench.load("i1", A)

    bench.clock.run()

    assert bench.times() == {"i1": 8.0}


def test_loads_under_way_are_found_by_their_server() -> None:
    bench = Bench((on_ssd("A", 32),))
    bench.load("i1", A)

    assert bench.loading.loading_on("s0") == ["i1"]
    assert bench.loading.loading_on("s1") == []
    bench.clock.run()
    assert bench.loading.loading_on("s0") == []
