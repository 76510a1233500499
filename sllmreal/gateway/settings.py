"""Settings of a gateway: its address, limits and time-outs."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from sllmcore.errors import UsageError


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one request, of one key, and of all together. Beyond them: 400, 413 or 429."""

    body_bytes: int = 1 << 20  # 128 Ki token ids in JSON are 0.9 MiB
    prompt_tokens: int = 131_072
    output_tokens: int = 32_768
    choices: int = 4_096  # of a request: prompts times n
    choices_at_once: int = 16  # of a request; the others begin when one of these has ended
    request_output_tokens: int = 1 << 20  # of all choices of a request together
    stop_chars: int = 16_384  # of all stop strings of a request together
    waiting: int = 1_024  # choices without a first token, of all keys
    requests_per_key: int = 256  # at once; a key's entry may replace this and the next two
    requests_per_s: float = 1_000.0
    burst: int = 2_000
    retry_after_s: float = 1.0  # the Retry-After of a refused request
    connections: int = 10_000
    stream_buffer_bytes: int = 256 << 10  # generated and not yet sent to the client

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time-outs of the gateway, in seconds."""

    headers_s: float = 10.0  # for a request's headers, from the connection or first byte on
    body_s: float = 30.0
    idle_s: float = 30.0  # between two requests of a connection
    write_s: float = 20.0  # for a client to read what was sent before
    heartbeat_s: float = 15.0  # a stream without tokens for so long sends a comment
    drain_s: float = 30.0  # for running requests, at the end
    driver_silence_s: float = 3.0  # beyond it /health answers 503

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """All settings. Raises UsageError if the gateway would be open to the network without keys."""

    host: str = "127.0.0.1"
    port: int = 8343  # 0: any free port
    keys_file: Path | None = None
    cors_origins: tuple[str, ...] = ()  # of web pages that may call the API; "*": all
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65_536:
            raise UsageError(f"port must be in [0, 65536), got {self.port}")
        if self.keys_file is None and not is_loopback(self.host):
            raise UsageError(
                f"a gateway without keys_file listens on loopback only, got host {self.host!r}; "
                "set keys_file, or host to 127.0.0.1"
            )


def is_loopback(host: str) -> bool:
    """Return True for addresses of this machine only. Names other than localhost do not count."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
