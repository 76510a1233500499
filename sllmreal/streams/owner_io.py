"""What an owner of a stream is asked for and what it asks for."""

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
class MigrationOrder:
    """A `Resume` with what the driver knows: the destination's address, and how to move."""

    move_id: str
    source_id: str
    destination_id: str
    address: str
    terms: MigrationParams


@dataclass(frozen=True, slots=True)
class OwnerOptions:
    """How patient an owner is. A host's lease must be several times `poll_s`."""

    poll_s: float = 2.0  # between words to the host of a stream
    resend_s: float = 1.0  # of what must be answered
    gap_s: float = 0.05  # between requests for missing tokens
    move_s: float = 120.0  # for a whole move, beside the time that its tokens took to generate

    def __post_init__(self) -> None:
        if min(self.poll_s, self.resend_s, self.gap_s, self.move_s) <= 0:
            raise UsageError(f"times must be positive, got {self}")


@dataclass(frozen=True, slots=True)
class SendToHost:
    """Say this to the host of an instance. It may get lost; the owner sees to that."""

    instance_id: str
    message: ToHost


@dataclass(frozen=True, slots=True)
class DeliverTokens:
    """The client's next tokens: every index once, in order."""

    first: int
    tokens: tuple[int, ...]
    finish: FinishReason | None


StreamEvent = (
    InferenceFinished | InferenceFailed | InferenceStopped | MigrationFinished | MigrationFailed
)


@dataclass(frozen=True, slots=True)
class ReportEvent:
    """Tell the controller. A move that finished had so many tokens computed again."""

    event: StreamEvent
    num_recomputed: int = 0


Output = SendToHost | DeliverTokens | ReportEvent
