"""Workers with engines that run: in threads and in processes, killed, stopped, and with weights."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from sllmcore.events import InstanceLost, LoadFailed
from sllmcore.types import DRAM, SSD, Residency
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.messages import LaunchInstance, StopInstance
from sllmreal.engine.protocol import Engine, OutputToken, SequenceSpec
from sllmreal.engine.samples import write_sample
from sllmreal.engine.timed import timed_engine
from sllmreal.engine.weights import Weights
from sllmreal.migration.links import LocalNetwork
from sllmreal.streams import messages as wire
from sllmreal.streams.host_io import HostOptions
from sllmreal.worker.data_plane import ToInstance
from sllmreal.worker.process_options import ProcessOptions
from sllmreal.worker.process_runner import process_launch
from sllmreal.worker.runner import MakeRunner, Runner, Send
from sllmreal.worker.spares import Spares
from sllmreal.worker.thread_runner import ThreadRunner, thread_launch
from sllmreal.worker.tiers import TierStorage
from tests.worker.models import CHUNK_BYTES, spec_of
from tests.worker.servers import small_server
from tests.worker.stages import WAIT_S, ended, pid_of, staged, start


async def generated_by_threads() -> list[int]:
    async with staged(thread_launch()) as stage:
        stage.execute(start(1, "i1"))
        await stage.loaded()
        tokens = await stage.generate("i1", (3, 1, 4), 5)
        stage.execute(StopInstance(2, "i1", True))
        return tokens


def test_an_engine_in_a_process_generates_the_tokens_of_one_in_a_thread() -> None:
    async def in_process() -> list[int]:
        async with staged(process_launch()) as stage:
            stage.execute(start(1, "i1"))
            await stage.loaded()
            return await stage.generate("i1", (3, 1, 4), 5)

    in_thread = asyncio.run(generated_by_threads())
    assert len(in_thread) == 5
    assert asyncio.run(in_process()) == in_thread


def test_a_killed_engine_is_an_instance_lost_and_its_gpu_is_usable_again() -> None:
    async def scenario() -> None:
        async with staged(process_launch()) as stage:
            stage.execute(start(1, "i1"))
            await stage.loaded()
            os.kill(pid_of(stage, "i1"), signal.SIGKILL)
            assert await stage.reported() == InstanceLost("i1", "its process was killed by SIGKILL")
            stage.execute(start(2, "i2"))
            assert (await stage.loaded()).instance_id == "i2"
            assert len(await stage.generate("i2", (1,), 3)) == 3

    asyncio.run(scenario())


def test_an_engine_killed_while_it_boots_is_a_load_that_failed() -> None:
    async def scenario() -> None:
        async with staged(process_launch()) as stage:
            stage.execute(start(1, "i1"))
            await asyncio.sleep(0.01)
            os.kill(pid_of(stage, "i1"), signal.SIGKILL)
            event = await stage.reported()
            assert isinstance(event, LoadFailed) and "SIGKILL" in event.reason

    asyncio.run(scenario())


def test_a_process_that_was_stopped_is_noticed_and_killed() -> None:
    async def scenario() -> None:
        options = ProcessOptions(beat_s=0.05, max_unanswered=20)
        async with staged(process_launch(options)) as stage:
            stage.execute(start(1, "i1"))
            await stage.loaded()
            pid = pid_of(stage, "i1")
            os.kill(pid, signal.SIGSTOP)
            assert await stage.reported() == InstanceLost(
                "i1", "its process left 20 pings unanswered"
            )
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    asyncio.run(scenario())


def test_a_busy_engine_is_not_taken_for_a_stopped_one() -> None:
    """Seeded bug: pings answered by the engine's thread lose it in the first long step."""
    slow = ModelDeployment(
        "slow", "nowhere", 9, 64, 0.0, "timed", settings={"prefill_token_s": 1.0}
    )

    async def scenario() -> None:
        options = ProcessOptions(beat_s=0.05, max_unanswered=30)
        async with staged(process_launch(options)) as stage:
            stage.execute(start(1, "i1", slow))
            await stage.loaded()
            assert len(await stage.generate("i1", (1, 2, 3), 1)) == 1  # a step of 3 s
            assert stage.reports.empty()

    asyncio.run(scenario())


def test_a_process_goes_with_its_worker() -> None:
    code = """
import asyncio, os
from sllmreal.worker.process_runner import process_launch
from tests.worker.stages import *
async def main():
    stage = Stage(PacedStorage(small_server()), process_launch())
    stage.execute(start(1, "i1"))
    await stage.loaded()
    print(pid_of(stage, "i1"), flush=True)
    os._exit(1)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=False
    )

    assert ended(int(done.stdout)), "the orphan lives"


class BreakingEngine:
    """A timed engine that breaks in its first step."""

    def __init__(self) -> None:
        self._engine = timed_engine()

    def step(self) -> list[OutputToken]:
        raise RuntimeError("a bug in the model")

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)


def test_an_engine_that_breaks_is_an_instance_lost_and_gateways_are_notified() -> None:
    def launch(instance_id: str, model: ModelDeployment, send: Send) -> Runner:
        links = LocalNetwork().links

        def make(spec: ModelDeployment, weights: Weights | None) -> Engine:
            return cast("Engine", BreakingEngine())

        return ThreadRunner(instance_id, model, send, make, links, HostOptions())

    async def scenario() -> None:
        async with staged(launch) as stage:
            stage.execute(start(1, "i1"))
            await stage.loaded()
            spec = wire.PackedSpec.of(SequenceSpec("r1", (1,), 3))
            stage.gateway.post(ToInstance("i1", wire.StartStream(wire.Epoch(1), spec)))
            reason = "RuntimeError: a bug in the model"
            assert await stage.reported() == InstanceLost("i1", reason)
            assert isinstance((await stage.gateway.receive()).message, wire.HostOnline)
            assert (await stage.gateway.receive()).message == wire.EngineFailed(reason)

    asyncio.run(scenario())


NO_ENGINE = ModelDeployment("x", "nowhere", 10, 64, 0.0, "unheard-of")
NO_SETTING = ModelDeployment("x", "nowhere", 10, 64, 0.0, "timed", settings={"pace": 1})
NO_WEIGHTS = ModelDeployment("x", "nowhere", 10, 64, 0.0, "transformers")


@pytest.mark.parametrize(
    ("launch", "model", "reason"),
    [
        (thread_launch(), NO_ENGINE, "unknown engine"),
        (thread_launch(), NO_SETTING, "no setting"),
        (thread_launch(), NO_WEIGHTS, "needs weights"),
        (process_launch(), NO_ENGINE, "unknown engine"),
        (process_launch(), NO_SETTING, "no setting"),
    ],
)
def test_a_model_that_cannot_run_is_a_load_that_failed(
    launch: MakeRunner, model: ModelDeployment, reason: str
) -> None:
    async def scenario() -> None:
        async with staged(launch) as stage:
            stage.execute(start(1, "i1", model))
            event = await stage.reported()
            assert isinstance(event, LoadFailed)
            assert event.reason.startswith(("UsageError", "UnknownNameError"))
            assert reason in event.reason

    asyncio.run(scenario())


def test_a_stop_ends_a_process_however_far_it_is() -> None:
    async def scenario() -> None:
        async with staged(process_launch()) as stage:
            stage.execute(start(1, "i1"))
            await asyncio.sleep(0.02)
            pid = pid_of(stage, "i1")
            stage.execute(StopInstance(2, "i1", False))
            stage.execute(start(3, "i2"))
            assert (await stage.loaded()).instance_id == "i2"
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    asyncio.run(scenario())


def expected_tokens(source: Path, prompt: tuple[int, ...], num: int) -> list[int]:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(source)
    tokens = torch.tensor([prompt])
    output = model.generate(tokens, max_new_tokens=num, do_sample=False)
    return [int(token) for token in output[0, len(prompt) :]]


PROMPT = (11, 12, 13, 14)


def test_a_real_model_answers_from_the_pool_and_leaves_it(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    source = write_sample(tmp_path / "llama", "llama-tiny")
    model = spec_of(source, "llama")
    size = model.size_bytes

    async def scenario() -> None:
        storage = TierStorage(small_server(), tmp_path / "ssd", chunk_bytes=CHUNK_BYTES)
        async with staged(thread_launch(storage.pool), storage) as stage:
            stage.execute(LaunchInstance(1, "i1", model, (0,), (DRAM, SSD), None))
            first = await stage.loaded()
            tokens = await stage.generate("i1", PROMPT, 8)
            stage.execute(StopInstance(2, "i1", True))
            stage.execute(start(3, "i2", model))
            second = await stage.loaded()
            again = await stage.generate("i2", PROMPT, 8, "r2")

            assert tokens == again == expected_tokens(source, PROMPT, 8)
            assert (first.num_bytes, second.source, second.num_bytes) == (size, DRAM, size)
            kept = (Residency(DRAM, "llama", size), Residency(SSD, "llama", size))
            assert stage.worker.offer().resident == kept
            storage.evict(DRAM, "llama", 0)
            await stage.worker.reset()
            assert storage.pool.status().resident_bytes == {}

    asyncio.run(scenario())


def memory_maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def test_a_real_model_answers_from_the_pool_of_a_spare_process(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    source = write_sample(tmp_path / "llama", "llama-tiny")
    model = spec_of(source, "llama")

    async def scenario() -> None:
        storage = TierStorage(small_server(), tmp_path / "ssd", chunk_bytes=CHUNK_BYTES)
        options = ProcessOptions(environment={"OMP_NUM_THREADS": "1"})
        async with (
            Spares(options, print) as spares,
            staged(process_launch(options, spares), storage) as stage,
            asyncio.timeout(WAIT_S),
        ):
            await spares.full()
            [pid] = spares.pids
            assert "libtorch" in memory_maps(pid) and "memfd:sllm-pool" not in memory_maps(pid)
            stage.execute(start(1, "i1", model))
            await stage.loaded()
            assert pid_of(stage, "i1") == pid
            assert "memfd:sllm-pool" in memory_maps(pid)  # no copy of the weights
            assert await stage.generate("i1", PROMPT, 8) == expected_tokens(source, PROMPT, 8)
            stage.execute(StopInstance(2, "i1", True))
            await stage.worker.reset()
            assert storage.pool.status().resident_bytes == {}

    asyncio.run(scenario())


def test_a_worker_without_weights_does_not_import_torch() -> None:
    code = """
import asyncio, sys
from sllmcore.types import ServerSpec
from sllmreal.control.messages import LaunchInstance
from sllmreal.control.deployment import ModelDeployment
from sllmreal.worker.data_plane import DataPlane
from sllmreal.worker.paced import PacedStorage
from sllmreal.worker.process_runner import process_launch
from sllmreal.worker.thread_runner import ThreadRunner, thread_launch
from sllmreal.worker.worker import Worker
async def main():
    server = ServerSpec("s0", 1, 100, 0, 0, 1e9, 1e9, 1e9)
    reports = asyncio.Queue()
    worker = Worker(server, PacedStorage(server), thread_launch(), DataPlane(), reports.put_nowait)
    model = ModelDeployment("m", "x", 10, 64, 0.0, "timed")
    worker.execute(LaunchInstance(1, "i1", model, (0,), (), None))
    print(type(await reports.get()).__name__)
    await worker.close()
asyncio.run(main())
bad = {"torch", "transformers", "ray", "hydra", "simpy", "fastapi"}
print(sorted(bad & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    assert done.stdout.split("\n")[:2] == ["LoadFinished", "[]"]


def test_an_engine_process_imports_torch_only_for_an_engine_that_needs_it() -> None:
    code = """
import sys, sllmreal.worker.child
print(sorted({"torch", "transformers", "ray", "hydra", "simpy", "fastapi"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    assert done.stdout == "[]\n"
