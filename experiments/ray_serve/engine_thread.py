"""An engine that steps in a thread and delivers its tokens to coroutines."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from queue import SimpleQueue

from sllmreal.engine.protocol import Engine, OutputToken, SequenceSpec

Change = Callable[[], None]


class EngineThread:
    """An engine in a thread. `generate` must always be called in the same event loop.

    Args:
        engine: Serves as many sequences at once as it has slots.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changes: SimpleQueue[Change] = SimpleQueue()
        self._listeners: dict[str, Callable[[OutputToken], None]] = {}
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    async def generate(self, spec: SequenceSpec) -> AsyncIterator[int]:
        """Yield the tokens of a sequence. Closing or cancelling the generator frees its slot."""
        loop = asyncio.get_running_loop()
        tokens: asyncio.Queue[OutputToken] = asyncio.Queue()
        request_id = spec.request_id

        def listen(token: OutputToken) -> None:
            loop.call_soon_threadsafe(tokens.put_nowait, token)

        self._changes.put(lambda: self._begin(spec, listen))
        try:
            while True:
                token = await tokens.get()
                yield token.token
                if token.finish is not None:
                    return
        finally:
            self._changes.put(lambda: self._end(request_id))

    def _begin(self, spec: SequenceSpec, listen: Callable[[OutputToken], None]) -> None:
        self._engine.start(spec)
        self._listeners[spec.request_id] = listen

    def _end(self, request_id: str) -> None:
        del self._listeners[request_id]
        self._engine.cancel(request_id)

    def _run(self) -> None:
        while True:
            while not self._changes.empty() or not self._engine.has_work:
                self._changes.get()()
            for token in self._engine.step():
                listener = self._listeners.get(token.request_id)
                if listener is not None:
                    listener(token)
