"""Measure the launch of an instance on a running worker that has the model in its SSD tier."""

import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from experiments.benchmarks.engine.cold_process import PROMPT
from experiments.benchmarks.loading.caching import drop
from experiments.benchmarks.loading.models import PreparedModel
from sllmcore.events import LoadFinished
from sllmcore.types import SSD, ServerSpec
from sllmreal.checkpoint import read_layout
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.messages import LaunchInstance, ReportedEvent, StopInstance
from sllmreal.engine.errors import EngineLostError
from sllmreal.engine.kind import DEFAULT_ENGINE
from sllmreal.engine.protocol import SequenceSpec
from sllmreal.engine.weights import Weights
from sllmreal.streams import messages as wire
from sllmreal.worker.data_plane import DataPlane, ToInstance
from sllmreal.worker.process_options import ProcessOptions
from sllmreal.worker.process_runner import process_launch
from sllmreal.worker.runner import Runner, Send
from sllmreal.worker.spares import Spares
from sllmreal.worker.tiers import TierStorage
from sllmreal.worker.worker import Worker

CONTEXT_TOKENS = 2048
_ROUNDING_BYTES = 256 << 20  # chunks of the pool are not all full


@dataclass(frozen=True, slots=True)
class MeasuredColdStart:
    """Seconds to the first token, seconds by phase (phases may overlap), and the token."""

    total_s: float
    phases: dict[str, float]
    token: int


class _TimedRunner:
    """A runner that records the instants of its phases."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._loop = asyncio.get_running_loop()
        self.booted_at_s = self.weights_at_s = self.online_at_s = 0.0
        self.post, self.lost, self.stop = runner.post, runner.lost, runner.stop

    async def boot(self) -> None:
        await self._runner.boot()
        self.booted_at_s = self._loop.time()

    async def start(self, weights: Weights | None) -> None:
        self.weights_at_s = self._loop.time()
        await self._runner.start(weights)
        self.online_at_s = self._loop.time()


class ColdService:
    """A worker with one GPU slot that has loaded the model once; a context manager."""

    def __init__(self, model: PreparedModel, directory: Path, engine: str = DEFAULT_ENGINE) -> None:
        tier_bytes = model.size_bytes + _ROUNDING_BYTES
        self._server = ServerSpec(
            id="s0",
            num_gpus=1,
            gpu_memory_bytes=tier_bytes,
            dram_bytes=0,
            ssd_bytes=2 * tier_bytes,
            remote_bytes_per_s=1e9,
            ssd_bytes_per_s=1e9,
            dram_bytes_per_s=1e10,
        )
        self._source = model.native
        self._directory = directory
        self._engine = engine
        self._loop = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._num_started = 0

    def __enter__(self) -> "ColdService":
        try:
            self._loop.run(self._open())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._loop:
            self._loop.run(self._stack.aclose())

    def first_token(self, *, with_spare: bool) -> MeasuredColdStart:
        """Launch an instance, with or without a spare process; measure until its first token."""
        return self._loop.run(self._first_token(with_spare))

    async def _open(self) -> None:
        size_bytes = read_layout(self._source).size_bytes
        self._model = ModelDeployment(
            name="m",
            source=str(self._source),
            size_bytes=size_bytes,
            context_tokens=CONTEXT_TOKENS,
            created_at_s=0.0,
            engine=self._engine,
        )
        options = ProcessOptions()
        spares = Spares(options, _print_error, self._engine)
        self._spares = await self._stack.enter_async_context(spares)
        self._launches = {
            True: process_launch(options, self._spares),
            False: process_launch(options),
        }
        storage = TierStorage(self._server, self._directory)
        self._reports: asyncio.Queue[ReportedEvent] = asyncio.Queue()
        plane = DataPlane()
        self._worker = Worker(
            server=self._server,
            storage=storage,
            make_runner=self._runner_of,
            data_plane=plane,
            report=self._reports.put_nowait,
        )
        self._stack.push_async_callback(plane.close)
        self._stack.push_async_callback(self._worker.close)
        self._gateway = plane.connect()
        await self._first_token(with_spare=False)  # copies the model into the SSD tier

    def _runner_of(self, instance_id: str, model: ModelDeployment, send: Send) -> Runner:
        runner = self._launches[self._with_spare](instance_id, model, send)
        self._runner = _TimedRunner(runner)
        return self._runner

    async def _first_token(self, with_spare: bool) -> MeasuredColdStart:
        self._with_spare = with_spare
        await self._spares.full()
        drop(file for file in self._directory.rglob("*") if file.is_file())
        self._num_started += 1
        instance_id = f"i{self._num_started}"
        began_s = asyncio.get_running_loop().time()
        order = LaunchInstance(
            id=2 * self._num_started,
            instance_id=instance_id,
            model=self._model,
            gpu_indices=(0,),
            cache_in=(SSD,),
            after=None,
        )
        self._worker.execute(order)
        loaded = await self._reports.get()
        if not isinstance(loaded, LoadFinished):
            raise EngineLostError(f"the launch failed: {loaded}")
        spec = wire.PackedSpec.of(SequenceSpec("first", PROMPT, 1))
        self._gateway.post(ToInstance(instance_id, wire.StartStream(wire.Epoch(1), spec)))
        token = await self._next_token()
        ended_s = asyncio.get_running_loop().time()
        self._worker.execute(StopInstance(2 * self._num_started + 1, instance_id, True))
        await self._worker.reset()
        runner = self._runner
        phases = {
            "boot": runner.booted_at_s - began_s,
            "weights (beside)": loaded.transfer_s,
            "until both": runner.weights_at_s - began_s,
            "engine": runner.online_at_s - runner.weights_at_s,
            "first token": ended_s - runner.online_at_s,
        }
        return MeasuredColdStart(ended_s - began_s, phases, token)

    async def _next_token(self) -> int:
        while True:
            message = (await self._gateway.receive()).message
            if isinstance(message, wire.Tokens):
                return message.tokens[0]


def _print_error(line: str) -> None:
    sys.stderr.write(line + "\n")
