"""Two engine processes, and one request at a time that moves from the first to the second."""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from types import TracebackType

from sllmcore.events import MigrationFailed, MigrationFinished
from sllmreal.engine import wire
from sllmreal.engine.errors import EngineLostError
from sllmreal.engine.process import HostProcess, HostSettings
from sllmreal.engine.protocol import Capabilities, SequenceSpec
from sllmreal.migration.orders import Deliver, MoveOrder, OwnerOptions, Report, Send
from sllmreal.migration.owner import StreamOwner

SOURCE, DESTINATION = "source", "destination"
_PATIENT = OwnerOptions(poll_s=5.0, resend_s=30.0, move_s=900.0)
_DEADLINE_S = 900.0


@dataclass(slots=True)
class Play:
    """One request, and when its tokens came."""

    owner: StreamOwner
    token_at_s: list[float] = field(default_factory=list)
    resumed_at_s: float = 0.0
    ready_at_s: float = 0.0
    ready: wire.Ready | None = None
    finished: MigrationFinished | None = None
    failure: str = ""


class Stage:
    """The processes live as long as the stage."""

    def __init__(self, settings: HostSettings) -> None:
        self._mail: SimpleQueue[tuple[str, wire.ToOwner | int]] = SimpleQueue()
        self._online: dict[str, wire.Online] = {}
        self._play: Play | None = None
        self._hosts = {
            name: HostProcess(settings, self._putting(name), self._putting(name))
            for name in (SOURCE, DESTINATION)
        }
        self._until(lambda: len(self._online) == 2)

    def _putting(self, name: str) -> Callable[[wire.ToOwner | int], None]:
        return lambda mail: self._mail.put((name, mail))

    def __enter__(self) -> "Stage":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for host in self._hosts.values():
            host.stop()

    @property
    def capabilities(self) -> Capabilities:
        return self._online[SOURCE].capabilities

    def play(
        self, spec: SequenceSpec, num_before: int, num_after: int, replay_tokens: int | None
    ) -> Play:
        """Move after `num_before` tokens, stop `num_after` later. Raises EngineLostError."""
        play = self._play = Play(StreamOwner(spec, _PATIENT))
        play.owner.infer(SOURCE, time.monotonic())
        self._until(lambda: len(play.token_at_s) >= num_before)
        here = self.capabilities
        terms = wire.Terms(secrets.token_bytes(32), here.model, here.kv_layout, replay_tokens)
        address = self._online[DESTINATION].address
        play.resumed_at_s = time.monotonic()
        play.owner.resume(MoveOrder("m", SOURCE, DESTINATION, address, terms), play.resumed_at_s)
        self._until(lambda: play.finished is not None or bool(play.failure))
        if play.failure:
            raise EngineLostError(f"the migration failed: {play.failure}")
        enough = len(play.token_at_s) + num_after
        self._until(lambda: len(play.token_at_s) >= enough or play.owner.finish is not None)
        play.owner.stop(DESTINATION, time.monotonic())
        self._until(lambda: play.owner.settled)
        self._play = None
        return play

    def _until(self, done: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + _DEADLINE_S
        self._carry_out()
        while not done():
            if time.monotonic() > deadline_s:
                raise EngineLostError(f"nothing for {_DEADLINE_S} s")
            with suppress(Empty):
                self._handle(*self._mail.get(timeout=1.0))
            if self._play is not None:
                self._play.owner.wakeup(time.monotonic())
            self._carry_out()

    def _handle(self, name: str, message: wire.ToOwner | int) -> None:
        match message:
            case int():
                raise EngineLostError(f"the {name} ended with code {message}")
            case wire.Broken(reason):
                raise EngineLostError(f"the {name} broke: {reason}")
            case wire.Online():
                self._online[name] = message
            case _ if self._play is not None:
                now_s = time.monotonic()
                if isinstance(message, wire.Ready) and self._play.ready is None:
                    self._play.ready, self._play.ready_at_s = message, now_s
                self._play.owner.receive(name, message, now_s)

    def _carry_out(self) -> None:
        play = self._play
        if play is None:
            return
        for output in play.owner.take_outputs():
            match output:
                case Send(name, message):
                    self._hosts[name].post(message)
                case Deliver(_, tokens):
                    play.token_at_s += [time.monotonic()] * len(tokens)
                case Report(MigrationFinished() as finished):
                    play.finished = finished
                case Report(MigrationFailed(reason=reason)):
                    play.failure = reason
                case Report():
                    pass
