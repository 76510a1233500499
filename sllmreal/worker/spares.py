"""Spare engine processes: imports are most of a cold start, and the same for all models.

    cold start without a spare  ~  max(imports, weights) + engine,     with one  ~  weights + engine

A spare is for one kind of engine. It has no model and no memory of a device. The next instance of
the kind gets it. Another spare is started when no instance is starting and the last one has had
time for its first tokens, because starting a process takes CPU time from them.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from sllmcore.errors import UsageError
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.errors import EngineLostError
from sllmreal.engine.kind import DEFAULT_ENGINE
from sllmreal.worker.child_messages import EngineStartFailed, FromChild, WarmedUp, WarmUp
from sllmreal.worker.engine_process import EngineProcess
from sllmreal.worker.engines import engine_kind
from sllmreal.worker.process_options import ProcessOptions

_LOG = logging.getLogger(__name__)
_FIRST_PAUSE_S = 1.0  # back-off before another try; doubled with each failure
_LONGEST_PAUSE_S = 60.0
# Where instances start all the time, for lack of spares, spares have to be started all the same.
_PATIENCE_S = 60.0
_MAX_KINDS = 2  # of engines with spares: a spare of vLLM has 1 GB of memory


@dataclass(slots=True, eq=False)
class _Spare:
    engine: str
    process: EngineProcess
    taken: "asyncio.Future[None]"


class Spares:
    """Keeps `options.num_spares` processes of each of some kinds of engines until the context ends.

    Args:
        options: Options of the processes.
        log: Called with the reason when a spare is lost or cannot be started; another one is tried.
        engine: The kind of engine that has spares until `keep_for` chooses others.
    """

    def __init__(
        self, options: ProcessOptions, log: Callable[[str], None], engine: str = DEFAULT_ENGINE
    ) -> None:
        self._options = options
        self._log = log
        self._engine = engine
        self._ready: list[_Spare] = []
        self._starting: set[str] = set()  # instances
        self._calm = asyncio.Event()
        self._calm.set()
        self._rest_until_s = 0.0  # by the loop's clock
        self._changed = asyncio.Event()
        self._keeping: dict[str, list[asyncio.Task[None]]] = {}  # by kind of engine
        self._ending: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Spares":
        self._keep_kinds([self._engine])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the spares that no instance has taken."""
        self._keep_kinds([])
        ended = await asyncio.gather(*self._ending, return_exceptions=True)
        for bug in ended:
            if isinstance(bug, Exception):
                raise bug

    def keep_for(self, models: Iterable[ModelDeployment]) -> None:
        """Keep spares of the engines of these models: of the two kinds that come last.

        Kinds that need no weights get none, because their processes start at once. Without any
        kind that needs a spare, the present ones are kept.
        """
        kinds: list[str] = []
        for model in models:
            if model.engine in kinds:
                kinds.remove(model.engine)
            if _gains_from_spare(model.engine):
                kinds.append(model.engine)
        if kinds:
            self._keep_kinds(kinds[-_MAX_KINDS:])

    @property
    def pids(self) -> list[int]:
        """The process ids of the ready spares, in the order in which they will be used."""
        return [one.process.pid for one in self._ready if one.process.pid is not None]

    async def full(self) -> None:
        """Wait until all spares are ready."""
        while len(self._ready) != self._options.num_spares * len(self._keeping):
            self._changed.clear()
            await self._changed.wait()

    def hand_out(self, instance_id: str, engine: str) -> EngineProcess | None:
        """Return a spare for an instance that is starting; None: it has to start a process."""
        self._starting.add(instance_id)
        self._calm.clear()
        for spare in [one for one in self._ready if one.engine == engine]:
            self._ready.remove(spare)
            if not spare.process.is_lost:
                spare.taken.set_result(None)
                ids = {"instance": instance_id}
                _LOG.info("spare engine process %s used", spare.process.pid, extra=ids)
                return spare.process
        return None

    def started(self, instance_id: str) -> None:
        """Note that an instance is online or has failed. May be called twice."""
        if instance_id in self._starting:
            self._starting.remove(instance_id)
            self._rest_until_s = asyncio.get_running_loop().time() + self._options.spare_delay_s
        if not self._starting:
            self._calm.set()

    def _keep_kinds(self, kinds: list[str]) -> None:
        """Keep spares of these kinds of engines, and end those of others."""
        loop = asyncio.get_running_loop()
        for engine in [one for one in self._keeping if one not in kinds]:
            for task in self._keeping.pop(engine):
                task.cancel()
                self._ending.append(task)
        for engine in [one for one in kinds if one not in self._keeping]:
            self._keeping[engine] = [
                loop.create_task(self._keep(engine), name=f"spare of {engine}")
                for _ in range(self._options.num_spares)
            ]
        self._changed.set()

    async def _keep(self, engine: str) -> None:
        """Start one spare after another, until cancelled."""
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while True:
            await self._calmed()
            began_s = loop.time()
            try:
                await self._one(engine)
            except (EngineLostError, UsageError) as error:
                self._log(f"a spare process of engine {engine}: {error}")
                if loop.time() - began_s > _LONGEST_PAUSE_S:  # the spare was ready for a while
                    pause_s = _FIRST_PAUSE_S
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                pause_s = _FIRST_PAUSE_S

    async def _calmed(self) -> None:
        """Wait until no instance is starting, at most `_PATIENCE_S`."""
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                while not self._calm.is_set() or loop.time() < self._rest_until_s:
                    await self._calm.wait()
                    await asyncio.sleep(self._rest_until_s - loop.time())

    async def _one(self, engine: str) -> None:
        """Start a spare; return when it is taken. Raises EngineLostError if it is lost before."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        warm: asyncio.Future[None] = loop.create_future()
        process = EngineProcess(
            self._options,
            lambda message: _note(warm, message),
            engine_kind(engine).interpreter(),
        )
        spare = _Spare(engine, process, loop.create_future())
        try:
            await process.open()
            process.send(WarmUp(engine))
            await process.answer(warm)
            process.max_unanswered = self._options.max_unanswered
            self._ready.append(spare)
            self._changed.set()
            _LOG.info("spare engine process %s ready in %.1f s", process.pid, loop.time() - began_s)
            await process.answer(spare.taken)
        finally:
            if spare in self._ready:
                self._ready.remove(spare)
                self._changed.set()
            if not spare.taken.done():
                await process.end()


def _gains_from_spare(engine: str) -> bool:
    try:
        return engine_kind(engine).needs_weights
    except UsageError:  # a plug-in that is not here: a launch of the model reports the error
        return False


def _note(warm: "asyncio.Future[None]", message: FromChild) -> None:
    match message:
        case WarmedUp() if not warm.done():
            warm.set_result(None)
        case EngineStartFailed(reason) if not warm.done():
            warm.set_exception(EngineLostError(reason))
        case _:
            return
