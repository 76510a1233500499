"""An engine host: one engine in one thread, its streams, and their migrations.

    with EngineHost(engine, send=owner_inbox.put) as host:
        host.post(messages.StartStream(epoch, spec))

`send` is called from the host's thread, first with HostOnline, and must not block. The thread waits
for messages while the engine has nothing to do, and otherwise steps it.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import assert_never

from sllmreal.engine.protocol import Engine
from sllmreal.migration.links import LocalNetwork, MigrationLinks, PeerMessage
from sllmreal.streams import messages
from sllmreal.streams.host_core import HostCore
from sllmreal.streams.host_io import (
    Connect,
    Disconnect,
    Expect,
    HostOptions,
    HostOutput,
    SendToOwner,
    Transmit,
)

_LOG = logging.getLogger(__name__)
Send = Callable[[messages.ToOwner], None]


@dataclass(frozen=True, slots=True)
class _FromHost:
    link_id: bytes
    message: PeerMessage


@dataclass(frozen=True, slots=True)
class _LinkLost:
    link_id: bytes
    reason: str


_Input = messages.ToHost | _FromHost | _LinkLost


class EngineHost:
    """Runs `engine`, and closes it at its end. Its methods may be called from any thread."""

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
        self._inbox: SimpleQueue[_Input] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="engine host", daemon=True)
        self._links.listen_to(self)
        self.failure: Exception | None = None  # the engine's error that ended the host

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def post(self, message: messages.ToHost) -> None:
        """Queue a message from the owner. Ignored after the end."""
        self._inbox.put(message)

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until Shutdown or an engine's error has ended the host. Return False on time-out."""
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
        self.post(messages.Shutdown())
        self.join()

    # From the links (`LinkEvents`).

    def received(self, link_id: bytes, message: PeerMessage) -> None:
        """Queue a message from the other host of a migration."""
        self._inbox.put(_FromHost(link_id, message))

    def lost(self, link_id: bytes, reason: str) -> None:
        """Queue the loss of a link."""
        self._inbox.put(_LinkLost(link_id, reason))

    def _run(self) -> None:
        self._send(messages.HostOnline(self._engine.capabilities, self._links.address))
        try:
            while self._receive_inputs():
                self._core.advance(self._clock())
                self._carry_out_outputs()  # before the step, because other hosts wait for them
                if self._core.has_work:
                    tokens = self._engine.step()
                    self._core.receive_tokens(tokens, self._clock())
                    self._carry_out_outputs()
            self._carry_out_outputs()
        except Exception as error:  # an engine may raise anything; the owner needs the reason
            _LOG.exception("engine failed")
            self.failure = error
            self._send(messages.EngineFailed(f"{type(error).__name__}: {error}"))
        finally:
            self._links.close()
            self._engine.close()

    def _receive_inputs(self) -> bool:
        """Handle all queued inputs; wait for one if nothing else is to do. Return False to end."""
        wait_s = self._wait_s()
        while True:
            try:
                item = self._inbox.get(timeout=wait_s) if wait_s != 0 else self._inbox.get_nowait()
            except Empty:
                return True
            wait_s = 0
            self._handle(item, self._clock())
            if isinstance(item, messages.Shutdown):
                return False

    def _wait_s(self) -> float | None:
        if self._core.has_work:
            return 0
        wakeup_s = self._core.next_wakeup_s
        return None if wakeup_s is None else max(0.0, wakeup_s - self._clock())

    def _handle(self, item: _Input, now_s: float) -> None:
        match item:
            case _FromHost(link_id, message):
                self._core.receive_from_host(link_id, message, now_s)
            case _LinkLost(link_id, reason):
                self._core.lose_link(link_id, reason, now_s)
            case _:
                self._core.receive(item, now_s)

    def _carry_out_outputs(self) -> None:
        for output in self._core.take_outputs():
            self._carry_out(output)

    def _carry_out(self, output: HostOutput) -> None:
        match output:
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
                assert_never(output)
