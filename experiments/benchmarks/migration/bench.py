"""Two engine processes; one request at a time migrates from the first to the second."""

import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

from experiments.benchmarks.migration.bench_model import BenchModel, is_weightless
from experiments.benchmarks.migration.fleet import HostFleet
from sllmcore.events import MigrationFailed, MigrationFinished
from sllmcore.types import DRAM, ServerSpec
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.errors import EngineLostError
from sllmreal.engine.protocol import Capabilities, SequenceSpec
from sllmreal.engine.weights import Weights
from sllmreal.streams import messages as wire
from sllmreal.streams.owner import StreamOwner
from sllmreal.streams.owner_io import DeliverTokens, MigrationSpec, StreamEvent
from sllmreal.worker.tiers import TierStorage

SOURCE, DESTINATION = "source", "destination"
_DEADLINE_S = 900.0


@dataclass(slots=True)
class MigrationRecord:
    """A request that migrates, with the instants of its tokens and messages.

    Attributes:
        token_at_s: Arrival of each token at the client.
        started_at_s: Start of the migration.
        ready_at_s: Arrival of `StreamReady`: the destination has caught up.
        failure: Reason of a failed migration; empty if it has not failed.
    """

    owner: StreamOwner
    token_at_s: list[float] = field(default_factory=list)
    started_at_s: float = 0.0
    ready_at_s: float = 0.0
    ready: wire.StreamReady | None = None
    finished: MigrationFinished | None = None
    failure: str = ""


class MigrationBench:
    """A source and a destination process of one model, which run until the context ends."""

    def __init__(self, model: BenchModel) -> None:
        self._record: MigrationRecord | None = None
        with ExitStack() as stack:
            self._fleet = stack.enter_context(HostFleet(model.spec, model.options, self))
            weights = self._loaded(model.spec, stack)
            for name in (SOURCE, DESTINATION):
                self._fleet.spawn(name, weights)
            self._until(lambda: len(self._fleet.online) == 2)
            self._stack = stack.pop_all()

    def __enter__(self) -> "MigrationBench":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of the engines."""
        return self._fleet.online[SOURCE].capabilities

    def migrate(
        self, spec: SequenceSpec, num_before: int, num_after: int, replay_tokens: int | None
    ) -> MigrationRecord:
        """Start a request, migrate it after `num_before` tokens, stop it `num_after` tokens later.

        Args:
            replay_tokens: Context tokens that the destination computes itself; None for all.

        Raises EngineLostError if the migration fails or a process is lost.
        """
        record = self._record = MigrationRecord(StreamOwner(spec))
        self._fleet.owners = {spec.request_id: record.owner}
        record.owner.start(SOURCE, time.monotonic())
        self._until(lambda: len(record.token_at_s) >= num_before)
        capabilities = self.capabilities
        params = wire.MigrationParams(
            secrets.token_bytes(32), capabilities.model, capabilities.kv_layout, replay_tokens
        )
        address = self._fleet.online[DESTINATION].address
        record.started_at_s = time.monotonic()
        record.owner.migrate(
            MigrationSpec(
                move_id="m",
                source_id=SOURCE,
                destination_id=DESTINATION,
                address=address,
                params=params,
            ),
            record.started_at_s,
        )
        self._until(lambda: record.finished is not None or bool(record.failure))
        if record.failure:
            raise EngineLostError(f"the migration failed: {record.failure}")
        enough = len(record.token_at_s) + num_after
        self._until(lambda: len(record.token_at_s) >= enough or record.owner.finish is not None)
        record.owner.stop(DESTINATION, time.monotonic())
        self._until(lambda: record.owner.settled)
        self._fleet.owners = {}
        self._record = None
        return record

    def message_received(self, name: str, message: wire.ToOwner) -> None:
        """Record the first `StreamReady`."""
        if (
            self._record is not None
            and isinstance(message, wire.StreamReady)
            and not self._record.ready
        ):
            self._record.ready, self._record.ready_at_s = message, time.monotonic()

    def host_lost(self, name: str, reason: str) -> None:
        """Raise EngineLostError."""
        raise EngineLostError(f"the {name} is lost: {reason}")

    def tokens_delivered(self, request_id: str, tokens: DeliverTokens) -> None:
        """Record when tokens arrive."""
        if self._record is not None:
            self._record.token_at_s += [time.monotonic()] * len(tokens.tokens)

    def event_reported(self, request_id: str, event: StreamEvent) -> None:
        """Record how the migration ends."""
        if self._record is not None:
            match event:
                case MigrationFinished():
                    self._record.finished = event
                case MigrationFailed(reason=reason):
                    self._record.failure = reason
                case _:
                    return

    def _until(self, done: Callable[[], bool]) -> None:
        self._fleet.run_until(done, _DEADLINE_S)

    def _loaded(self, model: ModelDeployment, stack: ExitStack) -> Weights | None:
        """Load the weights into a pool that both processes map; return None for a timed model."""
        if is_weightless(model.engine):
            return None
        server = ServerSpec(
            id="s",
            num_gpus=1,
            gpu_memory_bytes=1,
            dram_bytes=model.size_bytes,
            ssd_bytes=0,
            remote_bytes_per_s=1.0,
            ssd_bytes_per_s=1.0,
            dram_bytes_per_s=1.0,
        )
        directory = stack.enter_context(TemporaryDirectory(prefix="sllm-bench-"))
        storage = TierStorage(server, Path(directory))
        stack.callback(lambda: self._fleet.run(storage.close()))
        storage.begin("i", model, (DRAM,))
        return self._fleet.run(storage.load("i")).weights
