"""What a cold start took."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StartMethod:
    """Seconds to the first token, by parts (some beside others), and the token."""

    total_s: float
    phases: dict[str, float]
    token: int
