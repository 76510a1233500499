"""A runner of an engine in a process of its own, which is a spare one if there is any."""

import asyncio

from sllmcore.errors import UsageError
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.errors import EngineLostError
from sllmreal.engine.weights import Weights
from sllmreal.streams import messages as wire
from sllmreal.worker.child_messages import (
    BootEngine,
    EngineBooted,
    EngineStartFailed,
    FromChild,
    Pong,
    StartEngine,
    WarmedUp,
)
from sllmreal.worker.engine_process import EngineProcess
from sllmreal.worker.engines import check_settings, engine_kind
from sllmreal.worker.process_options import ProcessOptions
from sllmreal.worker.runner import MakeRunner, Runner, Send
from sllmreal.worker.spares import Spares


class ProcessRunner:
    """A runner of an engine in a child process."""

    def __init__(
        self,
        instance_id: str,
        model: ModelDeployment,
        send: Send,
        options: ProcessOptions,
        spares: Spares | None = None,
    ) -> None:
        self._instance_id = instance_id
        self._model = model
        self._send = send
        self._options = options
        self._spares = spares
        self._loop = asyncio.get_running_loop()
        self._process: EngineProcess | None = None
        self._booted: asyncio.Future[None] = self._loop.create_future()
        self._online: asyncio.Future[None] = self._loop.create_future()

    @property
    def pid(self) -> int | None:
        """The id of the process; None if there is none."""
        return None if self._process is None else self._process.pid

    async def boot(self) -> None:
        check_settings(self._model)
        spare = None
        if self._spares is not None:
            spare = self._spares.hand_out(self._instance_id, self._model.engine)
        if spare is None or not await self._booted_from(spare):
            interpreter = engine_kind(self._model.engine).interpreter()
            self._process = EngineProcess(self._options, self._take, interpreter)
            await self._process.open()
            await self._boot(self._process)

    async def start(self, weights: Weights | None) -> None:
        assert self._process is not None, "it has booted"
        self._process.send(StartEngine(weights))
        await self._process.answer(self._online)
        self._process.max_unanswered = self._options.max_unanswered
        self._has_started()

    def post(self, message: wire.ToHost) -> None:
        if self._process is not None:
            self._process.send(message)

    async def lost(self) -> str:
        assert self._process is not None, "it has booted"
        return await self._process.lost()

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.end()
        self._has_started()

    async def _booted_from(self, spare: EngineProcess) -> bool:
        """BootEngine in a spare process. Return False if the spare was lost."""
        self._process = spare
        spare.on_message = self._take
        try:
            await self._boot(spare)
        except EngineLostError:
            if not spare.is_lost:
                raise
            await spare.end()
            return False
        return True

    async def _boot(self, process: EngineProcess) -> None:
        process.max_unanswered = self._options.max_unanswered_booting
        process.send(BootEngine(self._model, process.move_address, self._options.host))
        await process.answer(self._booted)

    def _has_started(self) -> None:
        """Let spares be booted again: the instance has started, or will not."""
        if self._spares is not None:
            self._spares.started(self._instance_id)

    def _take(self, message: FromChild) -> None:
        match message:
            case EngineBooted() if not self._booted.done():
                self._booted.set_result(None)
            case EngineStartFailed(reason, usage):
                error = UsageError(reason) if usage else EngineLostError(reason)
                for awaited in (self._booted, self._online):
                    if not awaited.done():
                        awaited.set_exception(error)
                        awaited.exception()  # a future that nothing awaits must not warn
            case EngineBooted() | WarmedUp() | Pong():
                return
            case _:
                if isinstance(message, wire.HostOnline) and not self._online.done():
                    self._online.set_result(None)
                if isinstance(message, wire.EngineFailed) and self._process is not None:
                    self._process.lose(message.reason)
                self._send(message)


def process_launch(
    options: ProcessOptions | None = None, spares: Spares | None = None
) -> MakeRunner:
    """Return what makes runners in processes; weights are views of the worker's pool."""
    chosen = options or ProcessOptions()

    def launch(instance_id: str, model: ModelDeployment, send: Send) -> Runner:
        return ProcessRunner(instance_id, model, send, chosen, spares)

    return launch
