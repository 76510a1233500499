"""The log of a worker: the life of each instance, with the reason of a failure."""

import asyncio
import logging

import pytest

from sllmcore.types import DRAM
from tests.worker.fakes import Stage, Times
from tests.worker.servers import small_server
from tests.worker.stages import TIMED
from tests.worker.virtual import run_virtually


def test_a_worker_logs_the_life_of_its_instances(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        stage = Stage(small_server(), {"i2": Times(boot_fails=True)})
        stage.start("i1", TIMED, (0,))
        stage.start("i2", TIMED, (1,))
        await asyncio.sleep(1)
        stage.runners["i1"].broken.set_result("its process was killed by SIGKILL")
        await asyncio.sleep(1)
        stage.start("i3", TIMED, (0,))
        await asyncio.sleep(1)
        stage.stop("i3", loaded=True)
        stage.evict(DRAM, "timed")
        await stage.worker.close()

    with caplog.at_level(logging.INFO, "sllmreal.worker"):
        run_virtually(scenario())

    lines = [
        (record.levelname, getattr(record, "instance", None), record.getMessage().split(":")[0])
        for record in caplog.records
    ]
    assert lines == [
        ("INFO", "i1", "instance launched on GPUs (0,)"),
        ("INFO", "i2", "instance launched on GPUs (1,)"),
        ("WARNING", "i2", "load failed"),
        ("INFO", "i1", "instance ready"),
        ("WARNING", "i1", "instance lost"),
        ("INFO", "i3", "instance launched on GPUs (0,)"),
        ("INFO", "i3", "instance ready"),
        ("INFO", None, "copy evicted from DRAM"),
        ("INFO", "i3", lines[-1][2]),
    ]
    assert lines[-1][2].startswith("instance stopped in ")
    lost = next(
        record for record in caplog.records if record.getMessage().startswith("instance lo")
    )
    assert lost.getMessage() == "instance lost: its process was killed by SIGKILL"
    assert (lost.__dict__["server"], lost.__dict__["model"]) == ("s0", "timed")
