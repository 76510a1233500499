"""What a driver plays to a controller: requests together with the truth about them.

The controller sees only `WorkloadRequest.request`. The length of the answer and the client's
patience are facts of the future, which no policy may read.
"""

from dataclasses import dataclass

from sllmcore.errors import UsageError
from sllmcore.types import Request


@dataclass(frozen=True, slots=True)
class WorkloadRequest:
    """One request and its hidden fate.

    Args:
        request: What the controller gets to see, at `request.arrived_at_s`.
        output_tokens: How many tokens the model will generate; at least 1.
        cancel_at_s: When the client leaves if it is not served by then; None: it never does.
    """

    request: Request
    output_tokens: int
    cancel_at_s: float | None = None

    def __post_init__(self) -> None:
        if self.output_tokens < 1:
            raise UsageError(
                f"output_tokens of {self.request.id} must be >= 1: {self.output_tokens}"
            )
