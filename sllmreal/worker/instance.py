"""One instance from its order to its end: the cold start and what it took, then the engine's life.

    issued .. prepared .. turn ........ moved .......... ready
      before     waits    transfer_s    rest of the start

    startup_s = (ready - issued) - transfer_s - (turn - prepared)

The engine boots from the beginning on, beside all of that; only its weights are waited for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from sllmcore.errors import SllmError
from sllmcore.events import InstanceLost, LoadFailed, LoadFinished
from sllmreal.control.messages import LaunchInstance
from sllmreal.engine.errors import EngineLostError
from sllmreal.worker.runner import Runner
from sllmreal.worker.storage import LoadResult, Storage
from sllmreal.worker.turns import LoadTurns

Ended = LoadFailed | InstanceLost


class WorkerInstance:
    """An instance on its GPUs. Its place in `turns` and its room in `storage` have been taken.

    Args:
        order: What to start.
        runner: What its engine will run in.
        storage: Where its weights come from.
        turns: Whose transfer comes next.
    """

    def __init__(
        self, order: LaunchInstance, runner: Runner, storage: Storage, turns: LoadTurns
    ) -> None:
        self.id = order.instance_id
        self.model = order.model
        self.gpu_indices = order.gpu_indices
        self.runner = runner
        self.ready = False
        self._storage = storage
        self._turns = turns
        self._loop = asyncio.get_running_loop()
        self._issued_at_s = self._loop.time()
        self._prepared_at_s = self._turn_at_s = self._moved_at_s = self._issued_at_s
        self._life: asyncio.Task[None] | None = None
        self._active: asyncio.Task[Ended] | None = None
        self._stopped = False

    def begin(
        self,
        before: "Sequence[WorkerInstance]",
        finished: Callable[[LoadFinished], None],
        ended: Callable[["WorkerInstance", Ended], None],
    ) -> None:
        """Start. `before` had the GPUs, and are about to be gone.

        `finished` is told when it can serve, `ended` when it ends by itself: clean by then.
        """
        self._life = self._loop.create_task(self._live(before, finished, ended))

    async def gone(self) -> None:
        """Wait until nothing of the instance is left."""
        if self._life is not None:
            await asyncio.wait([self._life])

    def stop(self, gone: Callable[[], None]) -> None:
        """End it, however far it is; `gone` is called when nothing of it is left."""
        assert self._life is not None, "it has begun"
        self._stopped = True
        self._turns.leave(self.id)
        self._life.add_done_callback(lambda _: gone())
        if self._active is not None:
            self._active.cancel()

    async def _live(
        self,
        before: "Sequence[WorkerInstance]",
        finished: Callable[[LoadFinished], None],
        ended: Callable[["WorkerInstance", Ended], None],
    ) -> None:
        """Be active, then clear up: only the first of these is ever cancelled."""
        end: Ended | None = None
        if not self._stopped:
            self._active = self._loop.create_task(self._until_end(before, finished))
            await asyncio.wait([self._active])
            end = None if self._active.cancelled() else self._end_of(self._active)
        self._turns.leave(self.id)
        await self.runner.stop()
        if not self.ready:
            self._storage.end(self.id, heard=False)
        self._storage.release(self.id)
        if end is not None and not self._stopped:
            ended(self, end)

    def _end_of(self, active: "asyncio.Task[Ended]") -> Ended:
        """How it ended. A bug ends the instance, not the worker, and is not kept quiet."""
        bug = active.exception()
        if bug is None:
            return active.result()
        message = f"instance {self.id} ended by a bug"
        self._loop.call_exception_handler({"message": message, "exception": bug, "task": active})
        kind = InstanceLost if self.ready else LoadFailed
        return kind(self.id, f"internal error: {type(bug).__name__}: {bug}")

    async def _until_end(
        self, before: "Sequence[WorkerInstance]", finished: Callable[[LoadFinished], None]
    ) -> Ended:
        try:
            result = await self._cold_start(before)
        except SllmError as error:
            return LoadFailed(self.id, f"{type(error).__name__}: {error}")
        self.ready = True
        finished(self._event(result))
        return InstanceLost(self.id, await self.runner.lost())

    async def _cold_start(self, before: "Sequence[WorkerInstance]") -> LoadResult:
        booting = self._loop.create_task(self.runner.boot())
        moving = self._loop.create_task(self._transfer(before))
        try:
            await asyncio.wait([booting, moving], return_when=asyncio.FIRST_EXCEPTION)
            for task in (booting, moving):
                if task.done():
                    task.result()  # whichever failed; else both are done
            await self._watched(self.runner.start(moving.result().weights))
            return moving.result()
        finally:
            booting.cancel()
            moving.cancel()
            await asyncio.gather(booting, moving, return_exceptions=True)

    async def _watched(self, starting: Awaitable[None]) -> None:
        """Await the start, or the engine's end."""
        started = asyncio.ensure_future(starting)
        losing = self._loop.create_task(self.runner.lost())
        try:
            await asyncio.wait([started, losing], return_when=asyncio.FIRST_COMPLETED)
            if not started.done():
                raise EngineLostError(losing.result())
            await started
        finally:
            started.cancel()
            losing.cancel()
            await asyncio.gather(started, losing, return_exceptions=True)

    async def _transfer(self, before: "Sequence[WorkerInstance]") -> LoadResult:
        for predecessor in before:
            await predecessor.gone()
        self._prepared_at_s = self._loop.time()
        await self._turns.come(self.id)
        self._turn_at_s = self._loop.time()
        result = await self._storage.load(self.id)
        self._moved_at_s = self._loop.time()
        self._turns.leave(self.id)
        return result

    def _event(self, result: LoadResult) -> LoadFinished:
        transfer_s = self._moved_at_s - self._turn_at_s
        waited_s = self._turn_at_s - self._prepared_at_s
        all_s = self._loop.time() - self._issued_at_s
        startup_s = max(0.0, all_s - transfer_s - waited_s)
        return LoadFinished(self.id, result.source, result.num_bytes, transfer_s, startup_s)
