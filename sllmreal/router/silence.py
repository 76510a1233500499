"""Silence: the times after which a generation that makes no progress is restarted or fails."""

from dataclasses import dataclass

from sllmcore.errors import UsageError


@dataclass(frozen=True, slots=True)
class SilenceLimits:
    """Seconds that a generation may go without progress.

    Args:
        engine_s: Time without a token from the instance that runs the request. The first token
            takes as long as the prompt. The request is restarted once, and fails after another
            such time.
        start_s: Time in which the leader starts the request or ends it. Longer than the leader's
            own time-out, so that this one counts only if the leader's message is missing.
    """

    engine_s: float = 120.0
    start_s: float = 330.0  # ControllerSettings.startup_timeout_s, and the change of a leader

    def __post_init__(self) -> None:
        if self.engine_s <= 0 or self.start_s <= 0:
            raise UsageError(f"engine_s and start_s must be positive, got {self}")
