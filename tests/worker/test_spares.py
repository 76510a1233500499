"""Spare engine processes: used once, replaced, watched, and ended with their worker.

Most spares here are for the timed engine, which imports nothing; `test_engines` has a real spare.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sllmcore.errors import UsageError
from sllmreal.control.deployment import ModelDeployment
from sllmreal.worker import spares as spares_module
from sllmreal.worker.process_options import ProcessOptions
from sllmreal.worker.process_runner import process_launch
from sllmreal.worker.spares import Spares
from tests.worker.stages import WAIT_S, Stage, ended, pid_of, staged, start

TIMED_TOO = "sllmreal.engine.timed:TIMED"  # the same kind of engine by another name


@dataclass
class Bench:
    spares: Spares
    stage: Stage
    problems: "asyncio.Queue[str]"
    of_others: frozenset[int]  # children of this process that earlier tests have left

    def children(self) -> list[int]:
        """Processes that were started here and not waited for."""
        return [pid for pid in children() if pid not in self.of_others]

    async def full(self) -> list[int]:
        async with asyncio.timeout(WAIT_S):
            await self.spares.full()
        return self.spares.pids

    async def problem(self) -> str:
        async with asyncio.timeout(WAIT_S):
            return await self.problems.get()


@asynccontextmanager
async def bench(
    num_spares: int = 1, engine: str = "timed", beat_s: float = 1.0
) -> AsyncIterator[Bench]:
    options = ProcessOptions(num_spares=num_spares, spare_delay_s=0.0, beat_s=beat_s)
    problems: asyncio.Queue[str] = asyncio.Queue()
    of_others = frozenset(children())
    async with (
        Spares(options, problems.put_nowait, engine) as spares,
        staged(process_launch(options, spares)) as stage,
    ):
        yield Bench(spares, stage, problems, of_others)


def children() -> list[int]:
    """Processes that this one has started and not waited for."""
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in pids]


async def turn() -> None:
    """Let every task do what it can do at once."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_spare_becomes_the_next_instance_and_another_takes_its_place() -> None:
    async def scenario() -> None:
        async with bench() as here:
            [first] = await here.full()
            here.stage.execute(start(1, "i1"))
            await here.stage.loaded()
            assert pid_of(here.stage, "i1") == first
            assert len(await here.stage.generate("i1", (3, 1, 4), 5)) == 5
            [second] = await here.full()
            here.stage.execute(start(2, "i2", gpus=(1,)))
            await here.stage.loaded()

            assert pid_of(here.stage, "i2") == second != first

    asyncio.run(scenario())


def test_a_spare_is_handed_out_once() -> None:
    async def scenario() -> None:
        async with bench() as here:
            [spare] = await here.full()
            here.stage.execute(start(1, "i1"))
            here.stage.execute(start(2, "i2", gpus=(1,)))
            await here.stage.loaded()
            await here.stage.loaded()

            assert [pid_of(here.stage, one) for one in ("i1", "i2")].count(spare) == 1

    asyncio.run(scenario())


def test_no_spare_is_booted_while_an_instance_starts() -> None:
    async def scenario() -> None:
        async with bench() as here:
            [first] = await here.full()
            process = here.spares.hand_out("i1", "timed")
            assert process is not None
            await turn()
            while_starting = here.children()
            here.spares.started("i1")
            [second] = await here.full()
            await process.end()

            assert while_starting == [first]
            assert second != first

    asyncio.run(scenario())


def test_spares_are_booted_although_instances_always_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spares_module, "_PATIENCE_S", 0.01)

    async def scenario() -> None:
        async with bench() as here:
            here.spares.hand_out("i1", "timed")
            assert len(await here.full()) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGKILL, "was killed by SIGKILL"), (signal.SIGSTOP, "10 pings unanswered")],
)
def test_a_spare_that_dies_or_stops_is_replaced(number: signal.Signals, reason: str) -> None:
    async def scenario() -> None:
        async with bench(beat_s=0.05) as here:
            [first] = await here.full()
            os.kill(first, number)
            assert reason in await here.problem()
            [second] = await here.full()

            assert second != first
            assert first not in here.children()

    asyncio.run(scenario())


def test_an_instance_does_not_fail_because_its_spare_has_just_died() -> None:
    """Seeded bug: a runner without another try reports LoadFailed."""

    async def scenario() -> None:
        async with bench() as here:
            [spare] = await here.full()
            os.kill(spare, signal.SIGKILL)
            here.stage.execute(start(1, "i1"))
            await here.stage.loaded()

            assert pid_of(here.stage, "i1") != spare

    asyncio.run(scenario())


def test_an_engine_of_another_kind_takes_no_spare() -> None:
    async def scenario() -> None:
        async with bench() as here:
            pids = await here.full()
            assert here.spares.hand_out("i1", "transformers") is None
            assert here.spares.pids == pids

    asyncio.run(scenario())


def test_spares_are_no_instances_and_end_with_their_worker() -> None:
    async def scenario() -> None:
        async with bench(num_spares=2) as here:
            pids = await here.full()
            assert here.stage.worker.idle
            assert sorted(here.children()) == sorted(pids) and len(pids) == 2
        assert here.children() == []

    asyncio.run(scenario())


def test_a_spare_that_still_boots_ends_with_its_worker() -> None:
    async def scenario() -> None:
        async with bench() as here:
            await turn()
            assert len(here.children()) == 1
            assert here.spares.pids == []
        assert here.children() == []

    asyncio.run(scenario())


def test_spares_end_with_a_worker_that_is_killed() -> None:
    code = """
import asyncio, os, signal
from tests.worker.test_spares import bench
async def main():
    async with bench() as here:
        print(*await here.full(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=False
    )

    assert ended(int(done.stdout))


def test_a_worker_may_have_no_spares() -> None:
    async def scenario() -> None:
        async with bench(num_spares=0) as here:
            assert await here.full() == []
            here.stage.execute(start(1, "i1"))
            await here.stage.loaded()
            assert here.children() == [pid_of(here.stage, "i1")]

    asyncio.run(scenario())


def test_spares_that_cannot_be_booted_are_logged_and_instances_start() -> None:
    async def scenario() -> None:
        async with bench(engine="unheard-of") as here:
            assert "unknown engine" in await here.problem()
            here.stage.execute(start(1, "i1"))
            await here.stage.loaded()

    asyncio.run(scenario())


def test_a_negative_number_of_spares_is_refused() -> None:
    with pytest.raises(UsageError, match="num_spares"):
        ProcessOptions(num_spares=-1)


def test_spares_are_kept_for_the_engines_of_the_deployed_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spares_module, "_gains_from_spare", lambda engine: engine != "paced")

    def models(*engines: str) -> list[ModelDeployment]:
        return [ModelDeployment(f"m{n}", "-", 1, 64, 0.0, one) for n, one in enumerate(engines)]

    async def scenario() -> None:
        async with bench() as here:
            [timed] = await here.full()
            here.spares.keep_for(models())
            assert await here.full() == [timed]
            here.spares.keep_for(models("timed", TIMED_TOO, "timed"))
            both = await here.full()
            assert both[0] == timed and len(both) == 2
            here.spares.keep_for(models(TIMED_TOO, "paced"))
            assert await here.full() == both[1:]
            process = here.spares.hand_out("i1", TIMED_TOO)
            assert process is not None and process.pid == both[1]
            await process.end()

            assert ended(timed)

    asyncio.run(scenario())
