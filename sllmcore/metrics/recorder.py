"""Tables and summary of a run, built from journal entries one by one, live or from a file."""

from collections import Counter
from collections.abc import Sequence
from math import fsum
from typing import assert_never

from sllmcore.commands import (
    AbortMigration,
    Command,
    EvictCopy,
    LaunchInstance,
    RejectRequest,
    StartMigration,
    StartRequest,
    StopInstance,
    StopRequest,
    TimeOutRequest,
)
from sllmcore.events import (
    Event,
    InferenceFinished,
    InferenceStopped,
    InstanceLost,
    LoadFailed,
    LoadFinished,
    MigrationFailed,
    MigrationFinished,
    RequestArrived,
    RequestCancelled,
    ServerJoined,
    ServerLost,
)
from sllmcore.metrics.rows import LiveInstance, OpenRequest
from sllmcore.metrics.summary import Summary, distribution
from sllmcore.metrics.tables import INSTANCE_COLUMNS, REQUEST_COLUMNS, Table
from sllmcore.types import CACHE_TIERS, StorageTier


class Recorder:
    """A builder of metrics from journal entries.

    A request or instance gets its row in `requests` or `instances` when it ends.
    """

    def __init__(self) -> None:
        self.requests = Table(REQUEST_COLUMNS)
        self.instances = Table(INSTANCE_COLUMNS)
        self._open: dict[str, OpenRequest] = {}
        self._alive: dict[str, LiveInstance] = {}
        self._num_gpus: dict[str, int] = {}  # by server, of the present servers
        self._gpus_since_s = 0.0
        self._gpu_s: list[float] = []  # GPU-seconds of the present GPUs, in parts
        self._busy_s: list[float] = []
        self._loading_s: list[float] = []
        self._counts: Counter[str] = Counter()
        self._loads: Counter[str] = Counter()
        self._evictions: Counter[str] = Counter()
        self._now_s = 0.0

    def observe(self, now_s: float, event: Event, commands: Sequence[Command]) -> None:
        """Process one entry of the journal."""
        self._now_s = now_s
        match event:
            case RequestArrived(request):
                self._open[request.id] = OpenRequest(request, now_s)
            case LoadFinished(instance_id):
                self._mark_ready(instance_id, event)
            case InferenceFinished():
                self._finish_request(event)
            case RequestCancelled(request_id):
                self._cancel_request(request_id)
            case _:
                self._observe_rare(event)
        for command in commands:
            self._command(command)

    def _observe_rare(self, event: Event) -> None:
        match event:
            case MigrationFinished():
                self._migrate_request(event)
            case MigrationFailed():
                self._counts["failed_migrations"] += 1
            case InferenceStopped():
                self._stop_request(event)
            case LoadFailed(instance_id):
                self._counts["failed_loads"] += 1
                self._fail_instance(instance_id, "failed")
            case InstanceLost(instance_id):
                self._fail_instance(instance_id, "lost")
            case ServerJoined(server):
                self._count_gpu_time()
                self._num_gpus[server.id] = server.num_gpus
            case ServerLost(server_id):
                self._remove_server(server_id)
            case _:
                pass  # the tables hold nothing of it

    def _command(self, command: Command) -> None:
        match command:
            case StartRequest(_, request_id, instance_id, attempt):
                self._start_request(request_id, instance_id, attempt)
            case LaunchInstance(_, instance_id):
                self._alive[instance_id] = LiveInstance(command, self._now_s)
            case StopInstance(_, instance_id):
                self._end_instance(instance_id, "unloaded")
            case EvictCopy(_, _, tier):
                self._evictions[tier.name] += 1
            case RejectRequest(_, request_id, reason):
                self._end_request(request_id, "rejected", reason)
            case TimeOutRequest(_, request_id):
                self._end_request(request_id, "timed_out")
            case StopRequest() | StartMigration() | AbortMigration():
                pass  # counted by the events that answer them
            case _:
                assert_never(command)

    def _start_request(self, request_id: str, instance_id: str, attempt: int) -> None:
        row, instance = self._open[request_id], self._alive[instance_id]
        row.attempts = attempt
        if attempt == 1:
            row.started_at_s = self._now_s
            warm = instance.loaded is None or instance.num_requests > 0
            row.source = "GPU" if warm or not instance.loaded else instance.loaded.source.name
            self._counts["warm_starts"] += warm
        if row.paused_at_s is not None:
            row.pause_s += self._now_s - row.paused_at_s
            row.paused_at_s = None
        row.enter(instance, self._now_s)

    def _mark_ready(self, instance_id: str, event: LoadFinished) -> None:
        instance = self._alive.get(instance_id)
        if instance is not None:
            instance.loaded, instance.ready_at_s = event, self._now_s
            self._loads[event.source.name] += 1

    def _finish_request(self, event: InferenceFinished) -> None:
        row = self._open.get(event.request_id)
        if row is not None:
            row.output_tokens, row.first_token_at_s = event.output_tokens, event.first_token_at_s
            self._counts["output_tokens"] += event.output_tokens
            self._end_request(event.request_id, "cancelled" if row.cancelled else "completed")

    def _stop_request(self, event: InferenceStopped) -> None:
        row = self._open.get(event.request_id)
        if row is None:
            return
        if row.cancelled:
            self._end_request(event.request_id, "cancelled")
            return
        row.leave(self._now_s)
        row.preemptions += 1
        row.lost_tokens += event.lost_tokens
        row.paused_at_s = self._now_s
        self._counts["preemptions"] += 1
        self._counts["lost_tokens"] += event.lost_tokens

    def _migrate_request(self, event: MigrationFinished) -> None:
        row, destination = self._open.get(event.request_id), self._alive.get(event.destination_id)
        if row is not None and destination is not None:
            row.leave(self._now_s)
            row.enter(destination, self._now_s)
            row.migrations += 1
            row.pause_s += event.pause_s
            self._counts["migrations"] += 1

    def _cancel_request(self, request_id: str) -> None:
        row = self._open.get(request_id)
        if row is not None:
            row.cancelled = True
            if not row.running:  # a running request ends when it has stopped
                self._end_request(request_id, "cancelled")

    def _fail_instance(self, instance_id: str, end: str) -> None:
        """End an instance. Its requests pause until they run again, or end if cancelled."""
        instance = self._alive.get(instance_id)
        if instance is None:
            return
        for request_id in list(instance.running):
            row = self._open[request_id]
            if row.cancelled:
                self._end_request(request_id, "cancelled")
            else:
                row.leave(self._now_s)
                row.paused_at_s = self._now_s
                self._counts["restarts"] += 1
        self._end_instance(instance_id, end)

    def _remove_server(self, server_id: str) -> None:
        for instance_id, instance in list(self._alive.items()):
            if instance.load.server_id == server_id:
                self._fail_instance(instance_id, "lost")
        self._count_gpu_time()
        self._num_gpus.pop(server_id, None)

    def _count_gpu_time(self) -> None:
        num_gpus = sum(self._num_gpus.values())
        self._gpu_s.append(num_gpus * (self._now_s - self._gpus_since_s))
        self._gpus_since_s = self._now_s

    def _end_request(self, request_id: str, outcome: str, reason: str = "") -> None:
        row = self._open.pop(request_id, None)
        if row is not None:
            row.leave(self._now_s)
            self._counts[outcome] += 1
            self.requests.append(row.row(outcome, reason, self._now_s))

    def _end_instance(self, instance_id: str, end: str) -> None:
        instance = self._alive.pop(instance_id, None)
        if instance is not None:
            num_gpus = len(instance.load.gpu_indices)
            self._loading_s.append(num_gpus * instance.loading_s(self._now_s))
            self._busy_s.append(num_gpus * instance.busy_s)
            self.instances.append(instance.row(end, self._now_s))

    def close(self, now_s: float) -> Summary:
        """End the run: add rows for the present instances and return the summary."""
        self._now_s = now_s
        for instance_id, instance in list(self._alive.items()):
            for request_id in list(instance.running):
                self._open[request_id].leave(now_s)
            self._end_instance(instance_id, "")
        self._count_gpu_time()
        busy_s, loading_s = fsum(self._busy_s), fsum(self._loading_s)
        counts, requests = self._counts, self.requests
        return Summary(
            requests=len(requests) + len(self._open),
            completed=counts["completed"],
            rejected=counts["rejected"],
            timed_out=counts["timed_out"],
            cancelled=counts["cancelled"],
            startup_latency_s=distribution(requests.numbers("startup_latency_s")),
            ttft_s=distribution(requests.numbers("ttft_s")),
            pause_s=distribution(requests.numbers("pause_s")),
            migrations=counts["migrations"],
            failed_migrations=counts["failed_migrations"],
            preemptions=counts["preemptions"],
            lost_tokens=counts["lost_tokens"],
            restarts=counts["restarts"],
            output_tokens=counts["output_tokens"],
            loads={tier.name: self._loads[tier.name] for tier in StorageTier if tier.value < 3},
            failed_loads=counts["failed_loads"],
            warm_starts=counts["warm_starts"],
            evictions={tier.name: self._evictions[tier.name] for tier in CACHE_TIERS},
            gpu_busy_s=busy_s,
            gpu_loading_s=loading_s,
            gpu_idle_s=max(0.0, fsum(self._gpu_s) - busy_s - loading_s),
            ended_at_s=now_s,
        )
