"""A worker's reports for its orders, with exact times by a clock of the test."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sllmcore.errors import ControlError
from sllmcore.events import InstanceLost, LoadFailed, LoadFinished, ServerDraining
from sllmcore.types import DRAM, REMOTE, SSD, Residency, ServerSpec
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.messages import StartRequest, WorkerOffer
from tests.worker.fakes import Stage, Times
from tests.worker.virtual import run_virtually

SERVER = ServerSpec(
    id="s0",
    num_gpus=3,
    gpu_memory_bytes=1000,
    dram_bytes=2000,
    ssd_bytes=4000,
    remote_bytes_per_s=100.0,
    ssd_bytes_per_s=200.0,
    dram_bytes_per_s=1000.0,
)
A = ModelDeployment("a", "somewhere", 1000, 64, 0.0, "timed")
B = ModelDeployment("b", "somewhere", 800, 64, 0.0, "timed")


def play(
    scenario: Callable[[Stage], Awaitable[None]],
    times: dict[str, Times] | None = None,
    resident: tuple[Residency, ...] = (),
) -> Stage:
    async def main() -> Stage:
        stage = Stage(SERVER, times, resident)
        await scenario(stage)
        reports = list(stage.reports)
        await stage.worker.close()
        assert stage.reports == reports  # a worker's own end is not reported
        return stage

    return run_virtually(main())


def test_a_cold_start_is_timed_from_its_turn_to_the_last_byte() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start("i1", A)
        await asyncio.sleep(100)

    stage = play(scenario, {"i1": Times(boot_s=4, start_s=3)})

    # 10 s of transfer, beside 4 s of boot; then 3 s of start.
    assert stage.reports == [(13, LoadFinished("i1", REMOTE, 1000, 10.0, 3.0))]


def test_a_boot_that_outlasts_the_transfer_is_startup() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start("i1", A)
        await asyncio.sleep(100)

    stage = play(scenario, {"i1": Times(boot_s=14, start_s=3)})

    assert stage.reports == [(17, LoadFinished("i1", REMOTE, 1000, 10.0, 7.0))]


def test_a_load_behind_another_waits_for_its_transfer_and_does_not_count_that() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start("i1", A, (0,))
        stage.start("i2", B, (1,), after="i1")
        await asyncio.sleep(100)

    stage = play(scenario, {"i1": Times(start_s=5), "i2": Times(boot_s=2, start_s=1)})

    # i2 boots while it waits, so that its startup is 1 s; it does not wait for the start of i1.
    assert stage.reports == [
        (15, LoadFinished("i1", REMOTE, 1000, 10.0, 5.0)),
        (19, LoadFinished("i2", REMOTE, 800, 8.0, 1.0)),
    ]


def test_loads_on_different_paths_do_not_wait_for_each_other() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start("i1", A, (0,))
        stage.start("i2", B, (1,))
        await asyncio.sleep(100)

    stage = play(scenario, resident=(Residency(DRAM, "b", 800),))

    assert [report for _, report in stage.reports] == [
        LoadFinished("i2", DRAM, 800, 0.8, 0.0),
        LoadFinished("i1", REMOTE, 1000, 10.0, 0.0),
    ]


def test_a_turn_passes_on_when_the_load_that_has_it_is_stopped() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start("i1", A, (0,))
        stage.start("i2", B, (1,), after="i1")
        await asyncio.sleep(3)
        stage.stop("i1", loaded=False)
        await asyncio.sleep(100)

    stage = play(scenario)

    assert stage.reports == [(11, LoadFinished("i2", REMOTE, 800, 8.0, 0.0))]


def test_a_load_behind_a_stopped_one_waits_for_the_load_before_both() -> None:
    """Seeded bug: setting the followers' turn whenever a place is left starts i3 at 3."""

    async def scenario(stage: Stage) -> None:
        stage.start("i1", A, (0,))
        stage.start("i2", B, (1,), after="i1")
        stage.start("i3", B, (2,), after="i2")
        await asyncio.sleep(3)
        stage.stop("i2", loaded=False)
        await asyncio.sleep(100)

    stage = play(scenario)

    assert stage.reports == [
        (10, LoadFinished("i1", REMOTE, 1000, 10.0, 0.0)),
        (18, LoadFinished("i3", REMOTE, 800, 8.0, 0.0)),
    ]


def test_the_next_occupant_takes_no_memory_before_the_last_one_is_gone() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start("i1", A)
        await asyncio.sleep(20)
        stage.stop("i1", loaded=True)
        stage.start("i2", B)
        await asyncio.sleep(100)

    stage = play(scenario, {"i1": Times(stop_s=6)})

    # The six seconds count as startup: the I/O path was not what i2 waited for.
    assert stage.reports[1:] == [(34, LoadFinished("i2", REMOTE, 800, 8.0, 6.0))]


def test_a_stop_that_the_load_overtook_leaves_nothing_in_the_tiers() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start("i1", A, cache_in=(DRAM, SSD))
        await asyncio.sleep(20)  # finished and reported, but the order crosses the report
        stage.stop("i1", loaded=False)
        assert stage.storage.resident() == ()
        stage.start("i2", A, cache_in=(DRAM, SSD))
        await asyncio.sleep(20)
        stage.stop("i2", loaded=True)
        assert stage.storage.resident() == (
            Residency(DRAM, "a", 1000),
            Residency(SSD, "a", 1000),
        )

    stage = play(scenario)

    finished = [LoadFinished(i, REMOTE, 1000, 10.0, 0.0) for i in ("i1", "i2")]
    assert [report for _, report in stage.reports] == finished


def test_a_load_stopped_under_way_leaves_nothing_and_is_not_answered() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start("i1", A, cache_in=(DRAM, SSD))
        await asyncio.sleep(5)
        stage.stop("i1", loaded=False)
        await asyncio.sleep(100)
        assert stage.worker.offer() == WorkerOffer(SERVER, (), "memory")
        assert stage.worker.idle

    stage = play(scenario)

    assert stage.reports == []
    assert stage.runners["i1"].log[-1] == "stopped"


def test_a_launch_with_an_immediate_stop_leaves_nothing() -> None:
    """Seeded bug: cancelling a task that has not begun skips its clearing up."""

    async def scenario(stage: Stage) -> None:
        stage.start("i1", A, cache_in=(DRAM, SSD))
        stage.stop("i1", loaded=False)
        stage.start("i2", A, cache_in=(DRAM, SSD))
        await asyncio.sleep(100)

    stage = play(scenario)

    assert stage.runners["i1"].log == ["stopped"]
    assert stage.reports == [(10, LoadFinished("i2", REMOTE, 1000, 10.0, 0.0))]


def test_an_engine_that_does_not_boot_fails_its_load_at_once_and_leaves_nothing() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start("i1", A, cache_in=(DRAM, SSD))
        await asyncio.sleep(5)
        stage.start("i2", B)
        await asyncio.sleep(100)
        assert stage.storage.resident() == ()

    stage = play(scenario, {"i1": Times(boot_s=2, stop_s=1, boot_fails=True)})

    assert stage.reports == [
        (3, LoadFailed("i1", "EngineLostError: it did not boot")),
        (13, LoadFinished("i2", REMOTE, 800, 8.0, 0.0)),
    ]


def test_a_failed_load_gives_its_turn_away() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start("i1", A, (0,))
        stage.start("i2", B, (1,), after="i1")
        await asyncio.sleep(100)

    stage = play(scenario, {"i1": Times(boot_s=2, boot_fails=True)})

    assert [at_s for at_s, _ in stage.reports] == [2, 10]


def test_a_crash_is_reported_and_the_gpu_is_usable_at_once() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start("i1", A, cache_in=(DRAM,))
        await asyncio.sleep(20)
        stage.runners["i1"].broken.set_result("killed")
        await asyncio.sleep(5)
        stage.start("i2", A)
        await asyncio.sleep(100)

    stage = play(scenario)

    assert stage.reports == [
        (10, LoadFinished("i1", REMOTE, 1000, 10.0, 0.0)),
        (20, InstanceLost("i1", "killed")),
        (26, LoadFinished("i2", DRAM, 1000, 1.0, 0.0)),
    ]


def test_a_crash_before_the_load_is_acknowledged_leaves_nothing_either() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start("i1", A, cache_in=(DRAM,))
        await asyncio.sleep(20)
        stage.runners["i1"].broken.set_result("killed")
        await asyncio.sleep(1)
        assert stage.storage.resident() == (Residency(DRAM, "a", 1000),)
        stage.stop("i1", loaded=False)
        assert stage.storage.resident() == ()

    play(scenario)


def test_a_stop_of_an_ended_instance_is_ignored() -> None:
    async def scenario(stage: Stage) -> None:
        stage.stop("i1", loaded=False)
        stage.stop("i2", loaded=True)
        await asyncio.sleep(1)

    assert play(scenario).reports == []


def test_evictions_count_at_once_and_partly() -> None:
    async def scenario(stage: Stage) -> None:
        stage.evict(DRAM, "a", 400)
        assert set(stage.storage.resident()) == {
            Residency(DRAM, "a", 400),
            Residency(SSD, "a", 1000),
        }
        stage.start("i1", A)
        await asyncio.sleep(100)

    stage = play(scenario, resident=(Residency(DRAM, "a", 1000), Residency(SSD, "a", 1000)))

    # 600 bytes at 200/s, and 400 at 1000/s beside that.
    [(_, event)] = stage.reports
    assert event == LoadFinished("i1", SSD, 600, 3.0, 0.0)


@pytest.mark.parametrize("gpus", [(0,), (0, 1), (1, 0)])
def test_a_gpu_with_an_occupant_is_refused(gpus: tuple[int, ...]) -> None:
    async def scenario(stage: Stage) -> None:
        stage.start("i1", A, (0,))
        with pytest.raises(ControlError, match="has the occupant i1"):
            stage.start("i2", B, gpus)
        await stage.worker.close()

    play(scenario)


@pytest.mark.parametrize("gpus", [(), (0, 0), (3,), (-1,)])
def test_unknown_gpus_are_refused(gpus: tuple[int, ...]) -> None:
    async def scenario(stage: Stage) -> None:
        with pytest.raises(ControlError, match="GPU"):
            stage.start("i1", A, gpus)

    play(scenario)


def test_a_launch_without_room_in_a_tier_is_refused_and_the_gpu_stays_free() -> None:
    big = ModelDeployment("big", "somewhere", 3000, 64, 0.0, "timed")

    async def scenario(stage: Stage) -> None:
        with pytest.raises(ControlError, match="do not fit"):
            stage.start("i1", big, cache_in=(DRAM,))
        stage.start("i2", A)
        await asyncio.sleep(100)

    assert len(play(scenario).reports) == 1


def test_a_message_for_a_gateway_is_refused() -> None:
    async def scenario(stage: Stage) -> None:
        with pytest.raises(ControlError, match="StartRequest"):
            stage.worker.execute(StartRequest(1, "r1", "i1", "memory", 1))

    play(scenario)


def test_a_reset_drops_every_instance_and_keeps_what_is_cached() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start("i1", A, (0,), cache_in=(DRAM, SSD))
        await asyncio.sleep(20)
        stage.start("i2", B, (1,), cache_in=(DRAM, SSD))
        await asyncio.sleep(2)
        await stage.worker.reset()
        assert stage.worker.idle
        assert stage.worker.offer().resident == (
            Residency(DRAM, "a", 1000),
            Residency(SSD, "a", 1000),
        )
        assert asyncio.get_running_loop().time() == 25
        stage.start("i3", A, (0, 1))
        await asyncio.sleep(100)

    stage = play(scenario, {"i1": Times(stop_s=3), "i2": Times(stop_s=1)})

    assert [report for _, report in stage.reports] == [
        LoadFinished("i1", REMOTE, 1000, 10.0, 0.0),
        LoadFinished("i3", DRAM, 1000, 1.0, 0.0),
    ]


def test_draining_is_reported() -> None:
    async def scenario(stage: Stage) -> None:
        stage.worker.drain()

    assert play(scenario).reports == [(0, ServerDraining("s0"))]
