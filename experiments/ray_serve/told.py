"""What Ray Serve did, told as a journal would be, so that its tables are made as ours are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isnan
from operator import attrgetter
from pathlib import Path

import msgspec

from experiments.ray_serve.replica import LIVES, Life
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

TIMED_OUT, LEFT = "timed out", "left"  # a sending's problem; any other: it was refused
_UNKNOWN = LoadEstimate(REMOTE, 0.0, 0.0, 0.0)  # Ray Serve expects nothing


@dataclass(frozen=True, slots=True)
class Started:
    """Where and when a request began to run, in the workload's time."""

    replica_id: str
    at_s: float


@dataclass(frozen=True, slots=True)
class _Entry:
    at_s: float
    event: Event = field(default_factory=WakeUp)
    command: Command | None = None


def read_lives(directory: Path) -> list[Life]:
    """What the replicas have written down, by time."""
    decoder = msgspec.json.Decoder(Life)
    lines = (directory / LIVES).read_bytes().splitlines() if (directory / LIVES).exists() else []
    return sorted((decoder.decode(line) for line in lines), key=attrgetter("at_s"))


@dataclass(frozen=True, slots=True)
class Told:
    """All that is known of a run.

    Args:
        start_s: The workload's 0 s by the wall clock.
        end_s: Its end, in its own time.
    """

    servers: Sequence[ServerSpec]
    models: Sequence[ModelDeployment]
    lives: Sequence[Life]
    sendings: Sequence[Sending]
    started: dict[str, Started]
    start_s: float
    end_s: float

    def written(self, folder: Path) -> Summary:
        """requests.parquet and instances.parquet; returns the summary."""
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
        for number, life in enumerate(self.lives):
            at_s, name = max(0.0, life.at_s - self.start_s), life.replica_id
            if at_s > self.end_s:
                return
            if life.step == "made":
                made_at_s[name] = at_s
                yield _Entry(at_s, command=self._load(number, life))
            elif life.step == "ended":
                yield _Entry(at_s, command=StopInstance(number, name))
            elif life.source is not None:
                startup_s = at_s - made_at_s[name] - life.transfer_s
                size_bytes = sizes[life.model]
                yield _Entry(
                    at_s, LoadFinished(name, life.source, size_bytes, life.transfer_s, startup_s)
                )

    @staticmethod
    def _load(number: int, life: Life) -> LaunchInstance:
        gpus = life.gpu_indices
        return LaunchInstance(
            number, life.replica_id, life.model, life.server_id, gpus, _UNKNOWN, (), after=None
        )

    def _of_requests(self) -> Iterator[_Entry]:
        for number, sending in enumerate(self.sendings):
            request = sending.job.request
            yield _Entry(sending.sent_at_s, RequestArrived(request))
            started = self.started.get(request.id)
            if started is not None:
                infer = StartRequest(number, request.id, started.replica_id, attempt=1)
                yield _Entry(started.at_s, command=infer)
            yield from self._end(number, sending, started)

    @staticmethod
    def _end(number: int, sending: Sending, started: Started | None) -> Iterator[_Entry]:
        request_id, at_s = sending.job.request.id, sending.ended_at_s
        match sending.problem:
            case "":
                assert started is not None, "what was answered had begun"
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
