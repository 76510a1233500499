"""An engine in a process of its own, which was booted ahead where there is a spare one."""

import asyncio

from sllmcore.errors import UsageError
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.errors import EngineLostError
from sllmreal.engine.weights import Weights
from sllmreal.streams import messages as wire
from sllmreal.worker.child_messages import (
    Boot,
    Booted,
    CannotRun,
    FromChild,
    Pong,
    RunInstance,
    WarmedUp,
)
from sllmreal.worker.engine_process import EngineProcess
from sllmreal.worker.engines import check_settings, engine_kind
from sllmreal.worker.process_options import ProcessOptions
from sllmreal.worker.runner import Launch, Runner, Send
from sllmreal.worker.spares import Spares


class ProcessRunner:
    """Runs an engine in a child process."""

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
        """Of the process, while there is one."""
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
        self._process.tell(RunInstance(weights))
        await self._process.answer(self._online)
        self._process.max_unanswered = self._options.max_unanswered
        self._has_started()

    def post(self, message: wire.ToHost) -> None:
        if self._process is not None:
            self._process.tell(message)

    async def lost(self) -> str:
        assert self._process is not None, "it has booted"
        return await self._process.lost()

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.end()
        self._has_started()

    async def _booted_from(self, spare: EngineProcess) -> bool:
        """Whether the spare process was still good for it."""
        self._process = spare
        spare.hear = self._take
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
        process.tell(Boot(self._model, process.move_address, self._options.host))
        await process.answer(self._booted)

    def _has_started(self) -> None:
        """Or will not: in either case spares may be booted again."""
        if self._spares is not None:
            self._spares.started(self._instance_id)

    def _take(self, message: FromChild) -> None:
        match message:
            case Booted() if not self._booted.done():
                self._booted.set_result(None)
            case CannotRun(reason, usage):
                error = UsageError(reason) if usage else EngineLostError(reason)
                for awaited in (self._booted, self._online):
                    if not awaited.done():
                        awaited.set_exception(error)
                        awaited.exception()  # one of them may have nobody waiting
            case Booted() | WarmedUp() | Pong():
                return
            case _:
                if isinstance(message, wire.HostOnline) and not self._online.done():
                    self._online.set_result(None)
                if isinstance(message, wire.EngineFailed) and self._process is not None:
                    self._process.lose(message.reason)
                self._send(message)


def process_launch(options: ProcessOptions | None = None, spares: Spares | None = None) -> Launch:
    """Runs every instance in a process of its own; weights are views of the worker's pool."""
    chosen = options or ProcessOptions()

    def launch(instance_id: str, model: ModelDeployment, send: Send) -> Runner:
        return ProcessRunner(instance_id, model, send, chosen, spares)

    return launch
