"""Sequences of an engine as movable workloads: log = output tokens, state = cached positions.

`replay_tokens` says how the KV cache gets across. The destination computes the positions before it
from their tokens, and receives the cache of those after it, both at the same time:

    None     replay  all is computed; only tokens move
    0        copy    all is received; the destination computes nothing but its next token
    between  hybrid
"""

from collections import deque

from sllmreal.engine.protocol import Engine, KVBlock, SequenceSpec
from sllmreal.engine.sequence import check_continuation, check_spec
from sllmreal.engine.tokens import TOKEN_BYTES, pack_tokens, unpack_tokens
from sllmreal.migration.errors import BadDeltaError
from sllmreal.migration.messages import Delta, Final, LogDelta, Position, StateDelta


class DepartingSequence:
    """A sequence that goes on in its engine while its deltas are taken."""

    def __init__(self, engine: Engine, request_id: str, replay_tokens: int | None) -> None:
        self._engine = engine
        self._request_id = request_id
        self._copies = replay_tokens is not None

    @property
    def position(self) -> Position:
        progress = self._engine.progress(self._request_id)
        return Position(progress.num_output, progress.num_cached)

    def delta(self, since: Position, until: Position, max_bytes: int) -> Delta | None:
        if since.log < until.log:
            upto = min(until.log, since.log + max(1, max_bytes // TOKEN_BYTES))
            tokens = self._engine.output(self._request_id)[since.log : upto]
            return LogDelta(since.log, upto, memoryview(pack_tokens(tokens)))
        if not self._copies or since.state >= until.state:
            return None
        per_token = self._engine.capabilities.kv_bytes_per_token
        end = min(until.state, since.state + max(1, max_bytes // per_token))
        block = self._engine.export_kv(self._request_id, since.state, end)
        return StateDelta(block.begin, block.end, block.layers)

    def hold(self) -> None:
        self._engine.hold(self._request_id)

    def release(self) -> None:
        self._engine.release(self._request_id)


class ArrivingSequence:
    """A sequence built up, held, in the engine that will generate its next tokens.

    A copied one enters the engine when the cache of its whole prompt has come, lest the engine
    compute meanwhile what is on its way; whoever makes it keeps a slot free until then.

    Raises what `Engine.start` raises, at once.
    """

    def __init__(self, engine: Engine, spec: SequenceSpec, replay_tokens: int | None) -> None:
        check_spec(spec, engine.capabilities)
        self._engine = engine
        self._spec = spec
        self._replays = replay_tokens is None
        self._first_copied = replay_tokens or 0
        self._covered = self._first_copied  # the copied cache ends here
        self._tokens: list[int] = []
        self._num_fed = 0  # of them, the engine has so many
        self._blocks: deque[KVBlock] = deque()  # received, not in the engine yet
        self._num_imported = 0
        self.in_engine = False
        if replay_tokens != 0:
            self._enter()

    @property
    def copied(self) -> Position:
        return Position(len(self._tokens), self._covered)

    @property
    def ready(self) -> int:
        if not self.in_engine:
            return 0
        return self._engine.progress(self._spec.request_id).num_cached

    @property
    def settled(self) -> bool:
        if not self.in_engine:
            return True
        progress = self._engine.progress(self._spec.request_id)
        return progress.num_cached >= progress.num_known - 1

    @property
    def num_recomputed(self) -> int:
        """Positions that were not copied: the last token among them, whose result comes next."""
        return len(self._spec.prompt) + len(self._tokens) - self._num_imported

    @property
    def num_output(self) -> int:
        return len(self._tokens)

    def absorb(self, delta: Delta) -> None:
        match delta:
            case LogDelta():
                self._absorb_tokens(delta)
            case StateDelta():
                self._absorb_cache(delta)
        self.advance()

    def advance(self) -> None:
        """Give the engine what it can take by now."""
        if not self.in_engine:
            if self._covered < len(self._spec.prompt):
                return
            self._enter()
        limit = len(self._tokens)
        if not self._replays:
            # One token beyond the cache: a held sequence leaves its last one uncomputed.
            reach = max(self._covered, self._first_copied) + 1
            limit = min(limit, reach - len(self._spec.prompt))
        self._feed(limit)
        self._import()

    def complete(self, final: Final) -> bool:
        return len(self._tokens) >= final.log and (self._replays or self._covered >= final.state)

    def release(self) -> None:
        if not self.in_engine:
            self._enter()
        self._feed(len(self._tokens))
        self._import()
        self._blocks.clear()
        self._engine.release(self._spec.request_id)

    def _enter(self) -> None:
        self._engine.start(self._spec, held=True)
        self.in_engine = True

    def _absorb_tokens(self, delta: LogDelta) -> None:
        known = len(self._tokens)
        tokens = unpack_tokens(delta.payload)
        if delta.first < 0 or delta.upto - delta.first != len(tokens):
            raise BadDeltaError(f"{len(tokens)} tokens for outputs [{delta.first}, {delta.upto})")
        if delta.first > known or delta.upto <= known:
            return
        new = tokens[known - delta.first :]
        check_continuation(self._spec, known, new, self._engine.capabilities)
        self._tokens += new

    def _absorb_cache(self, delta: StateDelta) -> None:
        if self._replays:
            raise BadDeltaError("a cache was sent to a destination that replays")
        per_token = self._engine.capabilities.kv_bytes_per_token
        if not 0 <= delta.begin < delta.end or delta.num_bytes != per_token * (
            delta.end - delta.begin
        ):
            raise BadDeltaError(
                f"{delta.num_bytes} bytes for positions [{delta.begin}, {delta.end}) "
                f"of {per_token} bytes each"
            )
        known = len(self._spec.prompt) + len(self._tokens)
        if delta.begin > self._covered or delta.end <= self._covered or delta.end > known:
            return
        self._blocks.append(KVBlock(delta.begin, delta.end, delta.parts))
        self._covered = delta.end

    def _feed(self, limit: int) -> None:
        if limit > self._num_fed:
            self._engine.extend(self._spec.request_id, self._tokens[self._num_fed : limit])
            self._num_fed = limit

    def _import(self) -> None:
        while self._blocks:
            block = self._blocks[0]
            cached = self.ready
            if block.begin > cached:
                return
            if block.end > cached:
                self._engine.import_kv(self._spec.request_id, block)
                self._num_imported += block.end - max(block.begin, cached)
            self._blocks.popleft()
