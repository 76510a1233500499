"""An instance from its launch to its end: the cold start and its times, then the engine's life.

`sllmcore.cold_start` defines the times. A cold start is prepared when the instances that had its
GPUs are gone. The engine boots beside all of that; its start waits for the weights.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from sllmcore.cold_start import startup_s
from sllmcore.errors import SllmError
from sllmcore.events import InstanceLost, LoadFailed, LoadFinished
from sllmreal.control.messages import LaunchInstance
from sllmreal.engine.errors import EngineLostError
from sllmreal.worker.load_turns import AwaitedLoadTurns
from sllmreal.worker.runner import Runner
from sllmreal.worker.storage import LoadResult, Storage

Ended = LoadFailed | InstanceLost


class WorkerInstance:
    """An instance on its GPUs. It is queued in `turns`, and its room in `storage` is reserved.

    Args:
        order: The message that launched it.
        runner: Runs its engine.
        storage: Loads its weights.
        turns: The queues of transfers.
    """

    def __init__(
        self, order: LaunchInstance, runner: Runner, storage: Storage, turns: AwaitedLoadTurns
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
        """Start the cold start.

        Args:
            before: The instances that had these GPUs; the transfer waits until they are gone.
            finished: Called when the instance can serve.
            ended: Called when the instance has failed or crashed, and everything is cleaned up.
        """
        self._life = self._loop.create_task(self._live(before, finished, ended))

    async def gone(self) -> None:
        """Return when the instance has ended and everything is cleaned up."""
        if self._life is not None:
            await asyncio.wait([self._life])

    def stop(self, gone: Callable[[], None]) -> None:
        """End the instance in any state. Call `gone` when everything is cleaned up."""
        assert self._life is not None, "the instance has begun"
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
        """Load and serve until the end, then clean up. Only the first part is ever cancelled."""
        end: Ended | None = None
        if not self._stopped:
            self._active = self._loop.create_task(self._until_end(before, finished))
            await asyncio.wait([self._active])
            end = None if self._active.cancelled() else self._end_of(self._active)
        self._turns.leave(self.id)
        await self.runner.stop()
        if not self.ready:
            self._storage.end(self.id, acknowledged=False)
        self._storage.release(self.id)
        if end is not None and not self._stopped:
            ended(self, end)

    def _end_of(self, active: "asyncio.Task[Ended]") -> Ended:
        """Return the event of the end. A bug ends the instance, not the worker, and is logged."""
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
                    task.result()  # raises if this task failed
            await self._watched(self.runner.start(moving.result().weights))
            return moving.result()
        finally:
            booting.cancel()
            moving.cancel()
            await asyncio.gather(booting, moving, return_exceptions=True)

    async def _watched(self, starting: Awaitable[None]) -> None:
        """Await the start of the engine.

        Raises:
            EngineLostError: The engine ended first.
        """
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
        await self._turns.wait(self.id)
        self._turn_at_s = self._loop.time()
        result = await self._storage.load(self.id)
        self._moved_at_s = self._loop.time()
        self._turns.leave(self.id)
        return result

    def _event(self, result: LoadResult) -> LoadFinished:
        rest_s = startup_s(
            issued_at_s=self._issued_at_s,
            prepared_at_s=self._prepared_at_s,
            turn_at_s=self._turn_at_s,
            moved_at_s=self._moved_at_s,
            ready_at_s=self._loop.time(),
        )
        transfer_s = self._moved_at_s - self._turn_at_s
        return LoadFinished(self.id, result.source, result.num_bytes, transfer_s, rest_s)
