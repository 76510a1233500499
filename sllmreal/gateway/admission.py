"""Admission control: request rates and concurrent requests per key, and a bound on waiting choices.

Under overload a request is refused (429) after its headers were read, at little cost, so that the
admitted requests are served well.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sllmreal.gateway.errors import ApiError, too_many
from sllmreal.gateway.keys import Principal
from sllmreal.gateway.settings import Limits


@dataclass(slots=True)
class TokenBucket:
    """A rate limit: `rate_per_s` permits a second, of which up to `burst` are saved."""

    rate_per_s: float
    burst: int
    level: float
    filled_at_s: float

    def take(self, now_s: float) -> float:
        """Take a permit and return 0; if there is none, return the seconds until there is one."""
        self.level = min(self.burst, self.level + (now_s - self.filled_at_s) * self.rate_per_s)
        self.filled_at_s = now_s
        if self.level >= 1:
            self.level -= 1
            return 0.0
        return (1 - self.level) / self.rate_per_s


@dataclass(slots=True)
class _Account:
    """The use and limits of one key."""

    bucket: TokenBucket
    max_requests: int
    num_requests: int = 0


class WaitingChoice:
    """A choice that waits for its first token, and counts as waiting until `leave`."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self._waits = True

    def leave(self) -> None:
        """Stop waiting. May be called twice."""
        if self._waits:
            self._waits = False
            self._admission.num_waiting -= 1

    def enter(self) -> None:
        """Wait with a further choice of the same request. May be called while it waits."""
        if not self._waits:
            self._waits = True
            self._admission.num_waiting += 1


class Admission:
    """Counts the admitted requests of each key, and the waiting choices of all keys.

    Accounts of keys are never removed, because keys are few.
    """

    def __init__(self, limits: Limits, now_s: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._now_s = now_s
        self._accounts: dict[str, _Account] = {}
        self.num_waiting = 0

    @property
    def num_requests(self) -> int:
        """Admitted requests of all keys that have not ended."""
        return sum(account.num_requests for account in self._accounts.values())

    @contextmanager
    def request(self, principal: Principal) -> Iterator[None]:
        """Admit one request until the context ends. Raises ApiError (429)."""
        account = self._account(principal)
        wait_s = account.bucket.take(self._now_s())
        if wait_s > 0:
            rate = account.bucket.rate_per_s
            message = f"This key may send {rate:g} requests a second; wait {wait_s:.1f} s."
            raise too_many(message, "rate_limit_exceeded", wait_s)
        if account.num_requests >= account.max_requests:
            message = (
                f"This key has {account.num_requests} open requests and may have "
                f"{account.max_requests}; wait until one of them ends."
            )
            raise too_many(message, "concurrency_limit_exceeded", self._limits.retry_after_s)
        if self.num_waiting >= self._limits.waiting:
            raise self._queue_full()
        account.num_requests += 1
        try:
            yield
        finally:
            account.num_requests -= 1

    @contextmanager
    def waiting(self, num_choices: int) -> Iterator[list[WaitingChoice]]:
        """Count the choices of a request that begin at once as waiting.

        Raises ApiError (429) if not all of them may wait.
        """
        if self.num_waiting + num_choices > self._limits.waiting:
            raise self._queue_full()
        self.num_waiting += num_choices
        choices = [WaitingChoice(self) for _ in range(num_choices)]
        try:
            yield choices
        finally:
            for choice in choices:
                choice.leave()

    def _queue_full(self) -> ApiError:
        message = (
            f"{self.num_waiting} choices wait for their first token, and at most "
            f"{self._limits.waiting} may wait; try again later."
        )
        return too_many(message, "queue_full", self._limits.retry_after_s)

    def _account(self, principal: Principal) -> _Account:
        account = self._accounts.get(principal.id)
        if account is None:
            entry, limits = principal.entry, self._limits
            rate = (entry and entry.requests_per_s) or limits.requests_per_s
            burst = (entry and entry.burst) or min(limits.burst, max(1, math.ceil(2 * rate)))
            bucket = TokenBucket(rate, burst, burst, self._now_s())
            max_requests = (entry and entry.max_requests) or limits.requests_per_key
            account = self._accounts[principal.id] = _Account(bucket, max_requests)
        return account
