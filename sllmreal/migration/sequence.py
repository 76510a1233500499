"""The sequences of an engine as workloads: log = output tokens, state = cached positions.

`replay_tokens` is the way of the KV cache. The destination computes the positions before it from
their tokens, and receives the cache of the positions after it, both at the same time:

    None     replay  all positions are computed; only tokens are sent
    0        copy    all positions are received; the destination only computes the next token
    between  hybrid
"""

from collections import deque

from sllmreal.engine.logprobs import record_bytes
from sllmreal.engine.protocol import Engine, KVBlock, Progress, SequenceSpec
from sllmreal.engine.tokens import TOKEN_BYTES, pack_tokens, unpack_tokens
from sllmreal.migration.errors import BadDeltaError
from sllmreal.migration.messages import Delta, Final, LogDelta, Position, StateDelta


class DepartingSequence:
    """A sequence at its source: its engine continues while deltas are taken."""

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
            output = self._engine.output(self._request_id)
            records = self._engine.logprobs(self._request_id)
            size = len(records) // max(1, len(output))
            upto = min(until.log, since.log + max(1, max_bytes // (TOKEN_BYTES + size)))
            payload = pack_tokens(output[since.log : upto])
            payload += records[since.log * size : upto * size]
            return LogDelta(since.log, upto, memoryview(payload))
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
    """A sequence at its destination: held in an engine until it is complete.

    The engine computes the positions before `replay_tokens` only: the cache of the others is sent.

    Raises:
        SllmError: The engine refuses the sequence (see `Engine.start`).
    """

    def __init__(self, engine: Engine, spec: SequenceSpec, replay_tokens: int | None) -> None:
        engine.start(spec, held=True, compute_until=replay_tokens)
        self._engine = engine
        self._spec = spec
        self._replay_tokens = replay_tokens
        self._covered = replay_tokens or 0  # the copied cache ends here
        self._blocks: deque[KVBlock] = deque()  # received, but positions before them are missing
        self._num_imported = 0
        self.num_output = 0  # tokens from the source

    @property
    def copied(self) -> Position:
        return Position(self.num_output, self._covered)

    @property
    def ready(self) -> int:
        return self._progress.num_cached

    @property
    def settled(self) -> bool:
        progress = self._progress
        wanted = progress.num_known - 1
        if self._replay_tokens is not None:
            wanted = min(wanted, self._replay_tokens)
        return progress.num_cached >= wanted

    @property
    def num_recomputed(self) -> int:
        """Positions that were not copied. The last token is one: its output is the next token."""
        return len(self._spec.prompt) + self.num_output - self._num_imported

    def absorb(self, delta: Delta) -> None:
        match delta:
            case LogDelta():
                self._absorb_tokens(delta)
            case StateDelta():
                self._absorb_cache(delta)
        self.advance()

    def advance(self) -> None:
        """Import the received blocks that follow the cached positions."""
        while self._blocks:
            block, cached = self._blocks[0], self.ready
            if block.begin > cached:
                return
            self._engine.import_kv(self._spec.request_id, block)
            self._num_imported += block.end - cached
            self._blocks.popleft()

    def complete(self, final: Final) -> bool:
        copied = self.copied
        replays = self._replay_tokens is None
        return copied.log >= final.log and (replays or copied.state >= final.state)

    def release(self) -> None:
        self._blocks.clear()
        self._engine.release(self._spec.request_id)

    @property
    def _progress(self) -> Progress:
        return self._engine.progress(self._spec.request_id)

    def _absorb_tokens(self, delta: LogDelta) -> None:
        known = self.num_output
        size = record_bytes(self._spec.sampling)  # of the records that follow the tokens
        num_bytes = len(delta.payload) * TOKEN_BYTES // (TOKEN_BYTES + size)
        tokens = unpack_tokens(delta.payload[:num_bytes])
        if delta.first < 0 or delta.upto - delta.first != len(tokens):
            raise BadDeltaError(
                f"got {len(tokens)} tokens for outputs [{delta.first}, {delta.upto})"
            )
        if delta.first > known or delta.upto <= known:
            return
        num_known = known - delta.first
        records = bytes(delta.payload[num_bytes + num_known * size :])
        self._engine.extend(self._spec.request_id, tokens[num_known:], records)
        self.num_output = delta.upto

    def _absorb_cache(self, delta: StateDelta) -> None:
        if self._replay_tokens is None:
            raise BadDeltaError("got KV cache, but this destination computes it")
        per_token = self._engine.capabilities.kv_bytes_per_token
        if not 0 <= delta.begin < delta.end or delta.num_bytes != per_token * (
            delta.end - delta.begin
        ):
            raise BadDeltaError(
                f"got {delta.num_bytes} bytes for positions [{delta.begin}, {delta.end}) "
                f"of {per_token} bytes each"
            )
        known = len(self._spec.prompt) + self.num_output
        if delta.begin > self._covered or delta.end <= self._covered or delta.end > known:
            return
        self._blocks.append(KVBlock(delta.begin, delta.end, delta.parts))
        self._covered = delta.end
