"""Open requests and live instances, and the table rows they become at their end."""

from math import nan

from sllmcore.commands import LaunchInstance
from sllmcore.events import LoadFinished
from sllmcore.types import Request


class OpenRequest:
    """The metrics of a request that has not ended."""

    __slots__ = (
        "arrived_at_s",
        "attempts",
        "cancelled",
        "first_token_at_s",
        "instance",
        "lost_tokens",
        "migrations",
        "output_tokens",
        "pause_s",
        "paused_at_s",
        "preemptions",
        "request",
        "running",
        "source",
        "started_at_s",
    )

    def __init__(self, request: Request, now_s: float) -> None:
        self.request = request
        self.arrived_at_s = now_s
        self.started_at_s = self.first_token_at_s = nan
        self.paused_at_s: float | None = None
        self.pause_s = 0.0
        self.output_tokens = self.lost_tokens = 0
        self.attempts = self.migrations = self.preemptions = 0
        self.cancelled = self.running = False
        self.source = ""
        self.instance: LiveInstance | None = None  # its present or last instance

    def enter(self, instance: "LiveInstance", now_s: float) -> None:
        """Mark the request as running on this instance."""
        self.instance, self.running = instance, True
        instance.enter(self.request.id, now_s)

    def leave(self, now_s: float) -> None:
        """Mark the request as not running."""
        if self.running and self.instance is not None:
            self.instance.leave(self.request.id, now_s)
        self.running = False

    def row(self, outcome: str, reason: str, now_s: float) -> tuple[float | int | str, ...]:
        """Return the row, with the columns of `REQUEST_COLUMNS`."""
        request, load = self.request, self.instance.load if self.instance is not None else None
        startup_s = self.started_at_s - self.arrived_at_s
        return (
            request.id,
            request.tenant,
            request.model,
            outcome,
            reason,
            self.arrived_at_s,
            self.started_at_s,
            self.first_token_at_s,
            now_s,
            now_s - self.arrived_at_s if outcome == "timed_out" else startup_s,
            self.first_token_at_s - self.arrived_at_s,
            self.pause_s,
            request.input_tokens,
            self.output_tokens,
            self.source,
            load.server_id if load is not None else "",
            load.instance_id if load is not None else "",
            self.attempts,
            self.migrations,
            self.preemptions,
            self.lost_tokens,
        )


class LiveInstance:
    """The metrics of an instance that has not ended."""

    __slots__ = (
        "busy_s",
        "busy_since_s",
        "load",
        "loaded",
        "num_requests",
        "ready_at_s",
        "running",
        "since_s",
    )

    def __init__(self, load: LaunchInstance, now_s: float) -> None:
        self.load = load
        self.since_s = now_s
        self.loaded: LoadFinished | None = None
        self.ready_at_s = nan
        self.busy_s = 0.0
        self.busy_since_s = 0.0
        self.running: dict[str, None] = {}
        self.num_requests = 0

    def enter(self, request_id: str, now_s: float) -> None:
        """Count a request as running on the instance."""
        if not self.running:
            self.busy_since_s = now_s
        self.running[request_id] = None
        self.num_requests += 1

    def leave(self, request_id: str, now_s: float) -> None:
        """Count a request as no longer running; nothing happens if it did not."""
        if request_id in self.running:
            del self.running[request_id]
            if not self.running:
                self.busy_s += now_s - self.busy_since_s

    def row(self, end: str, now_s: float) -> tuple[float | int | str, ...]:
        """Return the row, with the columns of `INSTANCE_COLUMNS`."""
        load, loaded = self.load, self.loaded
        busy_s = self.busy_s + (now_s - self.busy_since_s if self.running else 0.0)
        return (
            load.instance_id,
            load.model,
            load.server_id,
            " ".join(map(str, load.gpu_indices)),
            len(load.gpu_indices),
            self.since_s,
            self.ready_at_s,
            now_s if end else nan,
            end,
            loaded.source.name if loaded is not None else "",
            loaded.num_bytes if loaded is not None else 0,
            load.estimate.transfer_s,
            loaded.transfer_s if loaded is not None else nan,
            load.estimate.queue_s,
            loaded.startup_s if loaded is not None else nan,
            busy_s,
            self.num_requests,
        )

    def loading_s(self, now_s: float) -> float:
        """Return the time from the launch until the instance was ready; until now if it was not."""
        return (self.ready_at_s if self.loaded is not None else now_s) - self.since_s
