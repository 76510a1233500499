"""Who gets in: request rates and requests at once per key, and a bound on all who wait.

A refusal costs no more than reading the headers, so that overload is answered and not served badly.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sllmreal.gateway.errors import too_many
from sllmreal.gateway.keys import Principal
from sllmreal.gateway.settings import Limits


@dataclass(slots=True)
class TokenBucket:
    """`rate_per_s` permits a second, saved up to `burst` of them."""

    rate_per_s: float
    burst: int
    level: float
    filled_at_s: float

    def take(self, now_s: float) -> float:
        """Take one permit and return 0; without one, the seconds until there is."""
        self.level = min(self.burst, self.level + (now_s - self.filled_at_s) * self.rate_per_s)
        self.filled_at_s = now_s
        if self.level >= 1:
            self.level -= 1
            return 0.0
        return (1 - self.level) / self.rate_per_s


@dataclass(slots=True)
class _Account:
    bucket: TokenBucket
    max_requests: int
    num_requests: int = 0


class AdmittedRequest:
    """A choice's place among those who wait for their first token."""

    def __init__(self, admission: "Admission") -> None:
        self._admission: Admission | None = admission

    def leave(self) -> None:
        """It waits no more. May be called again."""
        if self._admission is not None:
            self._admission.num_waiting -= 1
            self._admission = None


class Admission:
    """Counts who is inside. Keys are few and known, so accounts are kept for ever."""

    def __init__(self, limits: Limits, now_s: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._now_s = now_s
        self._accounts: dict[str, _Account] = {}
        self.num_waiting = 0

    @property
    def num_requests(self) -> int:
        """Requests inside, of all keys."""
        return sum(account.num_requests for account in self._accounts.values())

    @contextmanager
    def request(self, principal: Principal) -> Iterator[None]:
        """Let one request in for the duration. Raises ApiError (429)."""
        account = self._account(principal)
        wait_s = account.bucket.take(self._now_s())
        if wait_s > 0:
            message = f"This key may send {account.bucket.rate_per_s:g} requests a second."
            raise too_many(message, "rate_limit_exceeded", wait_s)
        if account.num_requests >= account.max_requests:
            message = f"This key may have {account.max_requests} requests at once."
            raise too_many(message, "concurrency_limit_exceeded", self._limits.retry_after_s)
        if self.num_waiting >= self._limits.waiting:
            raise self._full()
        account.num_requests += 1
        try:
            yield
        finally:
            account.num_requests -= 1

    @contextmanager
    def places(self, num_choices: int) -> Iterator[list[AdmittedRequest]]:
        """Places in the queue for all choices of a request, or for none. Raises ApiError (429)."""
        if self.num_waiting + num_choices > self._limits.waiting:
            raise self._full()
        self.num_waiting += num_choices
        places = [AdmittedRequest(self) for _ in range(num_choices)]
        try:
            yield places
        finally:
            for place in places:
                place.leave()

    def _full(self) -> Exception:
        message = f"{self.num_waiting} requests wait already; try again later."
        return too_many(message, "queue_full", self._limits.retry_after_s)

    def _account(self, principal: Principal) -> _Account:
        account = self._accounts.get(principal.id)
        if account is None:
            entry, limits = principal.entry, self._limits
            rate = (entry and entry.requests_per_s) or limits.requests_per_s
            burst = (entry and entry.burst) or min(limits.burst, max(1, math.ceil(2 * rate)))
            bucket = TokenBucket(rate, burst, burst, self._now_s())
            most = (entry and entry.max_requests) or limits.requests_per_key
            account = self._accounts[principal.id] = _Account(bucket, most)
        return account
