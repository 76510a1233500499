"""Options, inputs and outputs of a `StreamOwner`."""

from dataclasses import dataclass

from sllmcore.errors import UsageError
from sllmcore.events import (
    InferenceFailed,
    InferenceFinished,
    InferenceStopped,
    MigrationFailed,
    MigrationFinished,
)
from sllmreal.engine.protocol import FinishReason
from sllmreal.streams.messages import MigrationParams, ToHost


@dataclass(frozen=True, slots=True)
class MigrationSpec:
    """A StartMigration with the address of the destination's host and the parameters."""

    move_id: str
    source_id: str
    destination_id: str
    address: str
    params: MigrationParams


@dataclass(frozen=True, slots=True)
class OwnerOptions:
    """Time-outs of an owner, in seconds. A host's lease must be several times `poll_s`."""

    poll_s: float = 2.0  # between two messages to the host of a stream
    resend_s: float = 1.0  # until an unanswered message is sent again
    gap_s: float = 0.05  # between two requests for missing tokens
    move_s: float = 120.0  # for a migration, plus the time that its tokens took to generate

    def __post_init__(self) -> None:
        if min(self.poll_s, self.resend_s, self.gap_s, self.move_s) <= 0:
            raise UsageError(f"times must be positive, got {self}")


@dataclass(frozen=True, slots=True)
class SendToHost:
    """Send a message to the host of an instance. It may be lost: the owner sends it again."""

    instance_id: str
    message: ToHost


@dataclass(frozen=True, slots=True)
class DeliverTokens:
    """Give the client its next tokens. Each index is delivered once, in order."""

    first: int
    tokens: tuple[int, ...]
    finish: FinishReason | None
    logprobs: bytes = b""  # records of the tokens, if requested


StreamEvent = (
    InferenceFinished | InferenceFailed | InferenceStopped | MigrationFinished | MigrationFailed
)


@dataclass(frozen=True, slots=True)
class ReportEvent:
    """Report an event to the controller.

    `num_recomputed` is the tokens that the destination of a finished migration computed again.
    """

    event: StreamEvent
    num_recomputed: int = 0


OwnerOutput = SendToHost | DeliverTokens | ReportEvent
