"""Messages between the owner of a stream and the host of an engine.

A *stream* is one request's output tokens from one host. Its *epoch* is the number of hosts that
the request has been given to, this one included. Only the owner issues epochs, each once. It
accepts tokens of its current epoch only. Every message may arrive late, twice, or not at all:

    owner to host                              host to owner
    StartStream                                Tokens ... | StreamRefused
    PollStream, periodically                   Tokens from `num_received` on | StreamUnknown
    StopStream, also acknowledges a finish     StreamStopped, always
    PrepareStream    (destination)             StreamPrepared | StreamRefused,
                                               later StreamReady, Tokens ...
    MigrateStream    (source)                  StreamNotMoved, if it fails
    CommitStream     (destination)             Tokens from `num_received` on | StreamUnknown
    CancelMigration  (source)                  none: it goes on generating

A host drops a stream when it receives no message about it for its lease.
"""

from typing import NewType

import msgspec

from sllmreal.engine.protocol import (
    Capabilities,
    EngineStatistics,
    FinishReason,
    Sampling,
    SequenceSpec,
)
from sllmreal.engine.tokens import pack_tokens, unpack_tokens

Epoch = NewType("Epoch", int)


class _Message(msgspec.Struct, frozen=True, tag=True, array_like=True, forbid_unknown_fields=True):
    """A message, encoded as an array: its name, then its fields."""


class PackedSpec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A `SequenceSpec` with packed tokens."""

    request_id: str
    prompt: bytes
    max_output_tokens: int
    sampling: Sampling
    stop_tokens: frozenset[int]
    output: bytes = b""

    @classmethod
    def of(cls, spec: SequenceSpec) -> "PackedSpec":
        """Pack a spec."""
        return cls(
            request_id=spec.request_id,
            prompt=pack_tokens(spec.prompt),
            max_output_tokens=spec.max_output_tokens,
            sampling=spec.sampling,
            stop_tokens=spec.stop_tokens,
            output=pack_tokens(spec.output),
        )

    def unpacked(self) -> SequenceSpec:
        """Return the spec. Raises UsageError, or its subclass BadTokenError, if it is invalid."""
        return SequenceSpec(
            request_id=self.request_id,
            prompt=unpack_tokens(self.prompt),
            max_output_tokens=self.max_output_tokens,
            sampling=self.sampling,
            stop_tokens=self.stop_tokens,
            output=unpack_tokens(self.output),
        )


class MigrationParams(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Parameters of one migration, for its source and its destination.

    `key` authenticates the two to each other; each migration has its own. The destination
    recomputes the first `replay_tokens` of the context and receives the KV cache of the rest:
    0 copies all, None recomputes all.
    """

    key: bytes
    model: str
    kv_layout: str
    replay_tokens: int | None = None


class StartStream(_Message, frozen=True):
    """Generate tokens, beginning after `spec.output`."""

    epoch: Epoch
    spec: PackedSpec


class StopStream(_Message, frozen=True):
    """Drop the stream, whether it is running, finished or only prepared."""

    request_id: str
    epoch: Epoch


class PollStream(_Message, frozen=True):
    """Extend the stream's lease and ask for the tokens from index `num_received` on."""

    request_id: str
    epoch: Epoch
    num_received: int


class PrepareStream(_Message, frozen=True):
    """Become the destination of a migration: take a slot and expect the source."""

    epoch: Epoch
    spec: PackedSpec
    params: MigrationParams


class MigrateStream(_Message, frozen=True):
    """Become the source of a migration of stream `epoch` to stream `new_epoch`.

    `destination` is the address of the destination's host.
    """

    request_id: str
    epoch: Epoch
    new_epoch: Epoch
    destination: str
    params: MigrationParams


class CommitStream(_Message, frozen=True):
    """Make the prepared stream the request's stream; ask for tokens from `num_received` on."""

    request_id: str
    epoch: Epoch
    num_received: int


class CancelMigration(_Message, frozen=True):
    """Give up the migration to `new_epoch` and go on generating."""

    request_id: str
    epoch: Epoch
    new_epoch: Epoch


class GetHostStatus(_Message, frozen=True):
    """Ask for a HostStatus."""


class Shutdown(_Message, frozen=True):
    """Close the engine and end."""


class HostOnline(_Message, frozen=True):
    """The host's first message: its engine is ready. Sources of migrations connect to `address`."""

    capabilities: Capabilities
    address: str


class Tokens(_Message, frozen=True):
    """Output tokens from index `first` on.

    `finish` is the reason why the stream ended with the last of them; `tokens` may then be empty.
    """

    request_id: str
    epoch: Epoch
    first: int
    tokens: tuple[int, ...]
    finish: FinishReason | None = None
    logprobs: bytes = b""  # a record of `sllmreal.engine.logprobs` for each token, if requested


class StreamStopped(_Message, frozen=True):
    """The host does not hold the stream. `num_output` is its output tokens; None if unknown."""

    request_id: str
    epoch: Epoch
    num_output: int | None = None


class StreamUnknown(_Message, frozen=True):
    """The host does not hold the stream that the owner asked for."""

    request_id: str
    epoch: Epoch


class StreamRefused(_Message, frozen=True):
    """The stream could not start, or failed. `kind` is the name of the error's class."""

    request_id: str
    epoch: Epoch
    kind: str
    reason: str


class StreamPrepared(_Message, frozen=True):
    """The destination has taken a slot and expects the source."""

    request_id: str
    epoch: Epoch


class StreamReady(_Message, frozen=True):
    """The destination has all `num_output` tokens of the source and generates from there on.

    It recomputed `num_recomputed` tokens of the context and received `num_bytes` from the source.
    """

    request_id: str
    epoch: Epoch
    num_output: int
    num_recomputed: int
    num_bytes: int


class StreamNotMoved(_Message, frozen=True):
    """The source gave up the migration and goes on generating."""

    request_id: str
    epoch: Epoch
    new_epoch: Epoch
    reason: str


class HostStatus(_Message, frozen=True):
    """Streams that the host holds, including finished ones that wait for StopStream."""

    num_streams: int
    statistics: EngineStatistics


class EngineFailed(_Message, frozen=True):
    """The host's last message: its engine failed, and all its streams with it."""

    reason: str


ToHost = (
    StartStream
    | StopStream
    | PollStream
    | PrepareStream
    | MigrateStream
    | CommitStream
    | CancelMigration
    | GetHostStatus
    | Shutdown
)
ToOwner = (
    HostOnline
    | Tokens
    | StreamStopped
    | StreamUnknown
    | StreamRefused
    | StreamPrepared
    | StreamReady
    | StreamNotMoved
    | HostStatus
    | EngineFailed
)
