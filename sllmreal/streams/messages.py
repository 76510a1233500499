"""What the owner of a stream and the host of an engine say to each other.

A *stream* is one request's output tokens from one host; its *epoch* counts the hosts that the
request has been given to, itself included. Only the owner hands epochs out, each once, and only
the stream of its current epoch is listened to. Every message may come late, twice, or not at all:

    owner to host                            host to owner
    Start                                    Tokens ... | Refused
    Poll, from time to time                  Tokens from `have` on | Unknown
    Stop, also to acknowledge a finish       Stopped, always
    Prepare   (destination)                  Prepared | Refused, later Ready, Tokens ...
    Migrate   (source)                       MoveFailed, if so
    Commit    (destination)                  Tokens from `have` on | Unknown
    Stay      (source)                       none: it goes on

A host that hears nothing about a stream for its lease drops it.
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
    """A message is an array: its name, then its fields."""


class PackedSpec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A `SequenceSpec`, its tokens packed."""

    request_id: str
    prompt: bytes
    max_output_tokens: int
    sampling: Sampling
    stop_tokens: frozenset[int]
    output: bytes = b""

    @classmethod
    def of(cls, spec: SequenceSpec) -> "PackedSpec":
        return cls(
            spec.request_id,
            pack_tokens(spec.prompt),
            spec.max_output_tokens,
            spec.sampling,
            spec.stop_tokens,
            pack_tokens(spec.output),
        )

    def unpacked(self) -> SequenceSpec:
        """Raises UsageError for what is no request, BadTokenError among others."""
        return SequenceSpec(
            self.request_id,
            unpack_tokens(self.prompt),
            self.max_output_tokens,
            self.sampling,
            self.stop_tokens,
            unpack_tokens(self.output),
        )


class MigrationParams(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What both ends of a move are told.

    `key` authenticates them to each other, and belongs to this move alone. The first
    `replay_tokens` of the context are recomputed at the destination and the KV cache of the rest
    is copied: 0 copies all, None replays all.
    """

    key: bytes
    model: str
    kv_layout: str
    replay_tokens: int | None = None


class StartStream(_Message, frozen=True):
    """Generate, from the end of `spec.output` on."""

    epoch: Epoch
    spec: PackedSpec


class StopStream(_Message, frozen=True):
    """Forget the stream, running, finished, or only prepared."""

    request_id: str
    epoch: Epoch


class PollStream(_Message, frozen=True):
    """The owner lives, and has `have` output tokens."""

    request_id: str
    epoch: Epoch
    have: int


class PrepareStream(_Message, frozen=True):
    """Be the destination of a move: take a slot, and expect the source."""

    epoch: Epoch
    spec: PackedSpec
    terms: MigrationParams


class MigrateStream(_Message, frozen=True):
    """Be the source of a move of the stream `epoch` to the stream `new_epoch` at that address."""

    request_id: str
    epoch: Epoch
    new_epoch: Epoch
    destination: str
    terms: MigrationParams


class CommitStream(_Message, frozen=True):
    """The prepared stream is the request's stream."""

    request_id: str
    epoch: Epoch
    have: int


class CancelMigration(_Message, frozen=True):
    """The move to `new_epoch` is off: go on generating."""

    request_id: str
    epoch: Epoch
    new_epoch: Epoch


class GetHostStatus(_Message, frozen=True):
    """Ask for a Report."""


class Shutdown(_Message, frozen=True):
    """Close the engine and end."""


class HostOnline(_Message, frozen=True):
    """The host's first message: its engine is ready. `address` is where sources find it."""

    capabilities: Capabilities
    address: str


class Tokens(_Message, frozen=True):
    """Output from index `first` on. `finish` belongs to the last of them, or to the one before."""

    request_id: str
    epoch: Epoch
    first: int
    tokens: tuple[int, ...]
    finish: FinishReason | None = None


class StreamStopped(_Message, frozen=True):
    """The stream is not here, or no longer. It had `num_output` tokens, None if not known."""

    request_id: str
    epoch: Epoch
    num_output: int | None = None


class StreamUnknown(_Message, frozen=True):
    """A stream that was asked about is not here."""

    request_id: str
    epoch: Epoch


class StreamRefused(_Message, frozen=True):
    """The stream could not start here, or broke off. `kind` is the name of the error's class."""

    request_id: str
    epoch: Epoch
    kind: str
    reason: str


class StreamPrepared(_Message, frozen=True):
    """A slot is taken and the source expected."""

    request_id: str
    epoch: Epoch


class StreamReady(_Message, frozen=True):
    """The destination knows the `num_output` tokens that the source ended with, and generates on.

    `num_recomputed` tokens of the context were computed again; `num_bytes` came from the source.
    """

    request_id: str
    epoch: Epoch
    num_output: int
    num_recomputed: int
    num_bytes: int


class StreamNotMoved(_Message, frozen=True):
    """The source gave the move up and goes on generating."""

    request_id: str
    epoch: Epoch
    new_epoch: Epoch
    reason: str


class HostStatus(_Message, frozen=True):
    """What the host holds: streams, finished ones that wait for their Stop included."""

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
