"""Requests of a workload, with facts that only the driver may know.

The controller receives only `WorkloadRequest.request`. The length of the answer and the client's
patience lie in the future, so no policy may read them.
"""

from dataclasses import dataclass

from sllmcore.errors import UsageError
from sllmcore.types import Request


@dataclass(frozen=True, slots=True)
class WorkloadRequest:
    """A request, its true output length and the time at which its client gives up.

    Args:
        request: The part that the controller receives, at `request.arrived_at_s`.
        output_tokens: Number of tokens that the model will generate, at least 1.
        cancel_at_s: Time at which the client leaves if the request has not completed; None: never.
    """

    request: Request
    output_tokens: int
    cancel_at_s: float | None = None

    def __post_init__(self) -> None:
        if self.output_tokens < 1:
            raise UsageError(
                f"output_tokens of {self.request.id} must be >= 1, got {self.output_tokens}"
            )
