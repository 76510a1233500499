"""The record of a run of Ray Serve, converted to journal entries to make the tables from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isnan
from operator import attrgetter
from pathlib import Path

import msgspec

from experiments.ray_serve.replica import EVENTS, ReplicaEvent
from experiments.real.sending import Sending
from experiments.simulation.parquet_file import order_of_arrival, order_of_launch, write_table
from experiments.simulation.run_folder import INSTANCES, REQUESTS
from sllmcore.commands import (
    Command,
    LaunchInstance,
    RejectRequest,
    StartRequest,
    StopInstance,
    TimeOutRequest,
)
from sllmcore.events import (
    Event,
    InferenceFinished,
    InferenceStopped,
    LoadFinished,
    RequestArrived,
    RequestCancelled,
    ServerJoined,
    WakeUp,
)
from sllmcore.metrics import Recorder, Summary
from sllmcore.types import REMOTE, LoadEstimate, ServerSpec
from sllmreal.control.deployment import ModelDeployment

TIMED_OUT, LEFT = "timed out", "left"  # problems of a sending; any other is a rejection
_UNKNOWN = LoadEstimate(REMOTE, 0.0, 0.0, 0.0)  # Ray Serve estimates no loads


@dataclass(frozen=True, slots=True)
class RequestStart:
    """The replica that a request started on, and the time, in seconds of the workload."""

    replica_id: str
    at_s: float


@dataclass(frozen=True, slots=True)
class _Entry:
    at_s: float
    event: Event = field(default_factory=WakeUp)
    command: Command | None = None


def read_events(directory: Path) -> list[ReplicaEvent]:
    """Return the events that the replicas have written, in order of time."""
    decoder, file = msgspec.json.Decoder(ReplicaEvent), directory / EVENTS
    lines = file.read_bytes().splitlines() if file.exists() else []
    return sorted((decoder.decode(line) for line in lines), key=attrgetter("at_s"))


@dataclass(frozen=True, slots=True)
class RayServeRun:
    """The record of a run.

    Args:
        start_s: Wall-clock time of the workload's 0 s.
        end_s: End of the run, in seconds of the workload.
    """

    servers: Sequence[ServerSpec]
    models: Sequence[ModelDeployment]
    events: Sequence[ReplicaEvent]
    sendings: Sequence[Sending]
    started: dict[str, RequestStart]
    start_s: float
    end_s: float

    def write_tables(self, folder: Path) -> Summary:
        """Write requests.parquet and instances.parquet, and return the summary."""
        recorder = Recorder()
        entries = [*self._of_servers(), *self._of_replicas(), *self._of_requests()]
        for entry in sorted(entries, key=attrgetter("at_s")):
            commands = () if entry.command is None else (entry.command,)
            recorder.observe(entry.at_s, entry.event, commands)
        summary = recorder.close(self.end_s)
        write_table(recorder.requests, folder / REQUESTS, order_of_arrival(recorder.requests))
        write_table(recorder.instances, folder / INSTANCES, order_of_launch(recorder.instances))
        return summary

    def _of_servers(self) -> Iterator[_Entry]:
        for server in self.servers:
            yield _Entry(0.0, ServerJoined(server))

    def _of_replicas(self) -> Iterator[_Entry]:
        made_at_s: dict[str, float] = {}
        sizes = {model.name: model.size_bytes for model in self.models}
        for number, event in enumerate(self.events):
            at_s, name = max(0.0, event.at_s - self.start_s), event.replica_id
            if at_s > self.end_s:
                return
            if event.step == "made":
                made_at_s[name] = at_s
                yield _Entry(at_s, command=self._launch(number, event))
            elif event.step == "ended":
                yield _Entry(at_s, command=StopInstance(number, name))
            elif event.source is not None:
                startup_s = at_s - made_at_s[name] - event.transfer_s
                size_bytes = sizes[event.model]
                yield _Entry(
                    at_s,
                    LoadFinished(
                        instance_id=name,
                        source=event.source,
                        num_bytes=size_bytes,
                        transfer_s=event.transfer_s,
                        startup_s=startup_s,
                    ),
                )

    @staticmethod
    def _launch(number: int, event: ReplicaEvent) -> LaunchInstance:
        gpus = event.gpu_indices
        return LaunchInstance(
            id=number,
            instance_id=event.replica_id,
            model=event.model,
            server_id=event.server_id,
            gpu_indices=gpus,
            estimate=_UNKNOWN,
            cache_in=(),
            after=None,
        )

    def _of_requests(self) -> Iterator[_Entry]:
        for number, sending in enumerate(self.sendings):
            request = sending.job.request
            yield _Entry(sending.sent_at_s, RequestArrived(request))
            started = self.started.get(request.id)
            if started is not None:
                start = StartRequest(number, request.id, started.replica_id, attempt=1)
                yield _Entry(started.at_s, command=start)
            yield from self._end(number, sending, started)

    @staticmethod
    def _end(number: int, sending: Sending, started: RequestStart | None) -> Iterator[_Entry]:
        request_id, at_s = sending.job.request.id, sending.ended_at_s
        match sending.problem:
            case "":
                assert started is not None, "an answered request has started"
                first_s = at_s if isnan(sending.first_token_at_s) else sending.first_token_at_s
                yield _Entry(
                    at_s,
                    InferenceFinished(
                        request_id, started.replica_id, sending.output_tokens, first_s
                    ),
                )
            case "timed out":
                yield _Entry(at_s, command=TimeOutRequest(number, request_id))
            case "left":
                yield _Entry(at_s, RequestCancelled(request_id))
                if started is not None:
                    yield _Entry(at_s, InferenceStopped(request_id, started.replica_id, 0))
            case reason:
                yield _Entry(at_s, command=RejectRequest(number, request_id, reason))
