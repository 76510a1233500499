"""Two engine processes, and one request at a time that moves from the first to the second."""

import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

from experiments.benchmarks.migration.fleet import Fleet
from experiments.benchmarks.migration.specimens import Specimen
from sllmcore.events import MigrationFailed, MigrationFinished
from sllmcore.types import DRAM, ServerSpec
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.errors import EngineLostError
from sllmreal.engine.protocol import Capabilities, SequenceSpec
from sllmreal.engine.registry import ENGINES
from sllmreal.engine.weights import Weights
from sllmreal.streams import messages as wire
from sllmreal.streams.owner import StreamOwner
from sllmreal.streams.owner_io import DeliverTokens, MigrationOrder, StreamEvent
from sllmreal.worker.tiers import TierStorage

SOURCE, DESTINATION = "source", "destination"
_DEADLINE_S = 900.0


@dataclass(slots=True)
class Play:
    """One request, and when its tokens came."""

    owner: StreamOwner
    token_at_s: list[float] = field(default_factory=list)
    resumed_at_s: float = 0.0
    ready_at_s: float = 0.0
    ready: wire.StreamReady | None = None
    finished: MigrationFinished | None = None
    failure: str = ""


class MigrationBench:
    """The processes live as long as the stage."""

    def __init__(self, specimen: Specimen) -> None:
        self._play: Play | None = None
        with ExitStack() as stack:
            self._fleet = stack.enter_context(Fleet(specimen.spec, specimen.options, self))
            weights = self._loaded(specimen.spec, stack)
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
        return self._fleet.online[SOURCE].capabilities

    def play(
        self, spec: SequenceSpec, num_before: int, num_after: int, replay_tokens: int | None
    ) -> Play:
        """Move after `num_before` tokens, stop `num_after` later. Raises EngineLostError."""
        play = self._play = Play(StreamOwner(spec))
        self._fleet.owners = {spec.request_id: play.owner}
        play.owner.infer(SOURCE, time.monotonic())
        self._until(lambda: len(play.token_at_s) >= num_before)
        here = self.capabilities
        terms = wire.MigrationParams(
            secrets.token_bytes(32), here.model, here.kv_layout, replay_tokens
        )
        address = self._fleet.online[DESTINATION].address
        play.resumed_at_s = time.monotonic()
        play.owner.resume(
            MigrationOrder("m", SOURCE, DESTINATION, address, terms), play.resumed_at_s
        )
        self._until(lambda: play.finished is not None or bool(play.failure))
        if play.failure:
            raise EngineLostError(f"the migration failed: {play.failure}")
        enough = len(play.token_at_s) + num_after
        self._until(lambda: len(play.token_at_s) >= enough or play.owner.finish is not None)
        play.owner.stop(DESTINATION, time.monotonic())
        self._until(lambda: play.owner.settled)
        self._fleet.owners = {}
        self._play = None
        return play

    def said(self, name: str, message: wire.ToOwner) -> None:
        """From the fleet."""
        if (
            self._play is not None
            and isinstance(message, wire.StreamReady)
            and not self._play.ready
        ):
            self._play.ready, self._play.ready_at_s = message, time.monotonic()

    def lost(self, name: str, reason: str) -> None:
        """From the fleet."""
        raise EngineLostError(f"the {name} is lost: {reason}")

    def delivered(self, request_id: str, tokens: DeliverTokens) -> None:
        """From the fleet."""
        if self._play is not None:
            self._play.token_at_s += [time.monotonic()] * len(tokens.tokens)

    def reported(self, request_id: str, event: StreamEvent) -> None:
        """From the fleet."""
        if self._play is not None:
            match event:
                case MigrationFinished():
                    self._play.finished = event
                case MigrationFailed(reason=reason):
                    self._play.failure = reason
                case _:
                    return

    def _until(self, done: Callable[[], bool]) -> None:
        self._fleet.run_until(done, _DEADLINE_S)

    def _loaded(self, model: ModelDeployment, stack: ExitStack) -> Weights | None:
        """Its weights in a pool that both processes map."""
        if not ENGINES[model.engine].needs_weights:
            return None
        server = ServerSpec("s", 1, 1, model.size_bytes, 0, 1.0, 1.0, 1.0)
        directory = stack.enter_context(TemporaryDirectory(prefix="sllm-stage-"))
        storage = TierStorage(server, Path(directory))
        stack.callback(lambda: self._fleet.run(storage.close()))
        storage.begin("i", model, (DRAM,))
        return self._fleet.run(storage.load("i")).weights
