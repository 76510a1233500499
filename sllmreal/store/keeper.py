"""The keeper of a lease: it sends keep-alives, and bounds the lease's end by its own clock."""

import asyncio
from contextlib import suppress

from sllmreal.store.clock import LeaseClock, SystemClock, Timer, sleep
from sllmreal.store.errors import LeaseLostError, OutcomeUnknownError, StoreUnavailableError
from sllmreal.store.lease import Lease
from sllmreal.store.protocol import Store

KEEP_ALIVES_PER_TTL = 3


class KeptLease:
    """A lease that lives until `close`, or until its keep-alives fail for the length of its TTL.

    `lost` is set as soon as the lease has ended, or when `ttl_s` have passed since the last
    successful keep-alive was *sent*: not after the store's own clock ends the lease, if both run at
    one speed.

    Attributes:
        lost: Set when the holder of the lease must stop acting by it.
        reason: Why the lease is lost; empty before, and after `close`.
    """

    def __init__(self, store: Store, ttl_s: float, clock: LeaseClock | None = None) -> None:
        self._store = store
        self._ttl_s = ttl_s
        self._clock = clock or SystemClock()
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None
        self._lease: Lease | None = None
        self.lost = asyncio.Event()
        self.reason = ""

    def lose(self, reason: str) -> None:
        """Set `lost`. The first reason counts."""
        if not self.lost.is_set():
            self.reason = reason
            self.lost.set()

    async def start(self) -> "KeptLease":
        """Get the lease. Call it once."""
        asked_at_s = self._clock.now_s()
        lease = self._lease = await self._store.lease(self._ttl_s)
        self._hold_from(asked_at_s, lease.ttl_s)
        self._task = asyncio.create_task(self._keep(lease), name=f"keep lease {lease.id}")
        return self

    @property
    def id(self) -> int:
        """The id of the lease."""
        assert self._lease is not None, "the lease was started"
        return self._lease.id

    async def close(self) -> None:
        """End the lease; if the store does not answer, its keys vanish when the TTL is over."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._timer is not None:
            self._timer.cancel()
        self.lost.set()
        if self._lease is not None:
            with suppress(StoreUnavailableError, OutcomeUnknownError):
                await self._lease.revoke()

    def _hold_from(self, asked_at_s: float, ttl_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()

        def expire() -> None:
            since_s = self._clock.now_s() - asked_at_s
            self.lose(f"its lease of {ttl_s:g} s was last renewed {since_s:.1f} s ago")

        self._timer = self._clock.call_at(asked_at_s + ttl_s, expire)

    async def _keep(self, lease: Lease) -> None:
        period_s = pause_s = lease.ttl_s / KEEP_ALIVES_PER_TTL
        while not self.lost.is_set():
            await sleep(self._clock, pause_s)
            asked_at_s = self._clock.now_s()
            try:
                await lease.keep_alive()
            except LeaseLostError as error:
                self.lose(f"the store has ended its lease: {error}")
            except (StoreUnavailableError, OutcomeUnknownError):
                pause_s = period_s / KEEP_ALIVES_PER_TTL
            else:
                self._hold_from(asked_at_s, lease.ttl_s)
                pause_s = period_s
