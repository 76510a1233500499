"""A runner of an engine in a thread of the worker's process: no cost, no isolation."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from sllmcore.errors import SllmError
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.errors import EngineLostError
from sllmreal.engine.protocol import Engine
from sllmreal.engine.weights import Weights
from sllmreal.migration.links import LocalNetwork, MigrationLinks
from sllmreal.streams import messages as wire
from sllmreal.streams.host import EngineHost
from sllmreal.streams.host_io import HostOptions
from sllmreal.worker.engines import check_settings, make_engine
from sllmreal.worker.runner import MakeRunner, Runner, Send

if TYPE_CHECKING:
    from sllmreal.loader.pool import ChunkPool

MakeEngine = Callable[[ModelDeployment, Weights | None], Engine]


class ThreadRunner:
    """A runner of an engine in a thread. An engine that hangs cannot be ended.

    Args:
        make: Makes the engine.
        links: Makes the migration links of the host, by the instance's id.
    """

    def __init__(
        self,
        instance_id: str,
        model: ModelDeployment,
        send: Send,
        make: MakeEngine,
        links: Callable[[str], MigrationLinks],
        options: HostOptions,
    ) -> None:
        self._instance_id = instance_id
        self._model = model
        self._send = send
        self._make = make
        self._links = links
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._host: EngineHost | None = None
        self._online: asyncio.Future[None] = self._loop.create_future()
        self._lost: asyncio.Future[str] = self._loop.create_future()
        self._making: asyncio.Future[Engine] | None = None

    async def boot(self) -> None:
        check_settings(self._model)

    async def start(self, weights: Weights | None) -> None:
        make, model = self._make, self._model
        self._making = self._loop.run_in_executor(None, make, model, weights)
        try:
            engine = await asyncio.shield(self._making)
        except SllmError:
            raise
        except Exception as error:  # a model's code is foreign; the load has failed
            raise EngineLostError(f"{type(error).__name__}: {error}") from error
        self._host = EngineHost(
            engine,
            self._on_thread_message,
            links=self._links(self._instance_id),
            options=self._options,
        )
        self._host.start()
        await self._online

    def post(self, message: wire.ToHost) -> None:
        if self._host is not None:
            self._host.post(message)

    async def lost(self) -> str:
        return await asyncio.shield(self._lost)

    async def stop(self) -> None:
        if self._making is not None and self._host is None:
            await asyncio.wait([self._making])
            if self._making.exception() is None:
                self._making.result().close()
        if self._host is not None:
            self._host.post(wire.Shutdown())
            await asyncio.to_thread(self._host.join)
            self._host = None
        self._making = None

    def _on_thread_message(self, message: wire.ToOwner) -> None:
        self._loop.call_soon_threadsafe(self._on_message, message)

    def _on_message(self, message: wire.ToOwner) -> None:
        match message:
            case wire.HostOnline() if not self._online.done():
                self._online.set_result(None)
            case wire.EngineFailed(reason):
                if not self._online.done():
                    self._online.set_exception(EngineLostError(reason))
                if not self._lost.done():
                    self._lost.set_result(reason)
            case _:
                pass
        self._send(message)


def thread_launch(
    pool: "ChunkPool | None" = None,
    links: Callable[[str], MigrationLinks] | None = None,
    options: HostOptions | None = None,
) -> MakeRunner:
    """Return what makes runners in threads; weights are views of `pool`, the worker's own.

    Args:
        links: Makes the migration links of a host, by its instance's id; None: links within this
            worker only.
    """
    made = links or LocalNetwork().links
    chosen = options or HostOptions()

    def launch(instance_id: str, model: ModelDeployment, send: Send) -> Runner:
        def make(spec: ModelDeployment, weights: Weights | None) -> Engine:
            return make_engine(spec, weights, pool)

        return ThreadRunner(instance_id, model, send, make, made, chosen)

    return launch
