"""A host: one engine in one thread, the streams it runs, and the moves they are part of.

    with EngineHost(engine, send=owner_inbox.put) as host:
        host.post(wire.Start(epoch, spec))

`send` is called from the host's thread with `wire.ToOwner` messages, first `Online`, and must not
block. The thread waits for messages while the engine has nothing to do, and otherwise steps it.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import assert_never

from sllmreal.engine.protocol import Engine
from sllmreal.migration.links import LocalNetwork, MigrationLinks, PeerMessage
from sllmreal.streams import messages as wire
from sllmreal.streams.host_core import HostCore
from sllmreal.streams.host_effects import Connect, Disconnect, Effect, Expect, SendToOwner, Transmit
from sllmreal.streams.host_options import HostOptions

Send = Callable[[wire.ToOwner], None]


@dataclass(frozen=True, slots=True)
class _FromHost:
    link_id: bytes
    message: PeerMessage


@dataclass(frozen=True, slots=True)
class _LinkLost:
    link_id: bytes
    reason: str


_Mail = wire.ToHost | _FromHost | _LinkLost


class EngineHost:
    """Runs `engine`, which it closes at its end. Made in any thread, used from any thread."""

    def __init__(
        self,
        engine: Engine,
        send: Send,
        *,
        links: MigrationLinks | None = None,
        options: HostOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._core = HostCore(engine, options)
        self._engine = engine
        self._send = send
        self._links = links or LocalNetwork().links("alone")
        self._clock = clock
        self._inbox: SimpleQueue[_Mail] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="engine host", daemon=True)
        self._links.listen_to(self)
        self.failure: Exception | None = None  # what the engine broke with

    def start(self) -> None:
        self._thread.start()

    def post(self, message: wire.ToHost) -> None:
        """Hand over a message from the owner. After the end it is swallowed."""
        self._inbox.put(message)

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end, which a Shutdown or a broken engine brings. Whether it has come."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def __enter__(self) -> "EngineHost":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.post(wire.Shutdown())
        self.join()

    def received(self, link_id: bytes, message: PeerMessage) -> None:
        """From the links."""
        self._inbox.put(_FromHost(link_id, message))

    def lost(self, link_id: bytes, reason: str) -> None:
        """From the links."""
        self._inbox.put(_LinkLost(link_id, reason))

    def _run(self) -> None:
        self._send(wire.HostOnline(self._engine.capabilities, self._links.address))
        try:
            while self._take_mail():
                self._core.wakeup(self._clock())
                self._carry_out()  # a step takes its time, and other hosts wait for what was said
                if self._core.has_work:
                    outputs = self._engine.step()
                    self._core.stepped(outputs, self._clock())
                    self._carry_out()
            self._carry_out()
        except Exception as error:  # whatever an engine breaks with, its owner must hear of it
            self.failure = error
            self._send(wire.EngineFailed(f"{type(error).__name__}: {error}"))
        finally:
            self._links.close()
            self._engine.close()

    def _take_mail(self) -> bool:
        """Handle what has come, waiting for something where there is nothing else to do."""
        wait_s = self._wait_s()
        while True:
            try:
                mail = self._inbox.get(timeout=wait_s) if wait_s != 0 else self._inbox.get_nowait()
            except Empty:
                return True
            wait_s = 0
            self._handle(mail, self._clock())
            if isinstance(mail, wire.Shutdown):
                return False

    def _wait_s(self) -> float | None:
        if self._core.has_work:
            return 0
        wakeup_s = self._core.next_wakeup_s
        return None if wakeup_s is None else max(0.0, wakeup_s - self._clock())

    def _handle(self, mail: _Mail, now_s: float) -> None:
        match mail:
            case _FromHost(link_id, message):
                self._core.receive_from_host(link_id, message, now_s)
            case _LinkLost(link_id, reason):
                self._core.link_lost(link_id, reason, now_s)
            case _:
                self._core.receive(mail, now_s)

    def _carry_out(self) -> None:
        for effect in self._core.take_effects():
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case SendToOwner(message):
                self._send(message)
            case Expect(link_id, key):
                self._links.expect(link_id, key)
            case Connect(link_id, key, address):
                self._links.connect(link_id, key, address)
            case Transmit(link_id, message):
                self._links.transmit(link_id, message)
            case Disconnect(link_id):
                self._links.disconnect(link_id)
            case _:
                assert_never(effect)
