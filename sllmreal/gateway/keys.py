"""API keys: bearer keys, of which the gateway stores only the SHA-256.

    python -m sllmreal.gateway.keys --tenant research     prints a new key and its entry

The keys file is a JSON list of entries (`KeyEntry`). It contains no key, but it controls access to
models, so other users of the machine must not be able to read or write it.
"""

import argparse
import hashlib
import hmac
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sllmcore.errors import UsageError
from sllmreal.gateway.backend import DeployedModel
from sllmreal.gateway.errors import unauthorised

MAX_KEYS = 1_000  # each request is compared with all of them: 0.1 ms
_MAX_FILE_BYTES = 4 << 20
_MAX_KEY_CHARS = 512


class KeyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A key. `models` are the names that it may use; None: all models of its tenant."""

    sha256: str
    tenant: str
    models: frozenset[str] | None = None
    operator: bool = False  # may read /metrics, which name every tenant's models
    expires_at_s: float | None = None  # Unix time
    max_requests: int | None = None  # at once
    requests_per_s: float | None = None
    burst: int | None = None

    def __post_init__(self) -> None:
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise UsageError(f"sha256 must be 64 hexadecimal digits, got {self.sha256[:80]!r}")
        for name in ("max_requests", "requests_per_s", "burst"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"{name} must be positive, got {value}")


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a key. Without keys all requests have one principal, without restrictions."""

    id: str
    tenant: str
    entry: KeyEntry | None = None

    def sees(self, model: DeployedModel) -> bool:
        """Return True if the principal may know of the model and use it."""
        if self.entry is None:
            return True
        allowed = self.entry.models is None or model.name in self.entry.models
        return allowed and (model.tenants is None or self.tenant in model.tenants)

    @property
    def is_operator(self) -> bool:
        """True if the principal may read the metrics."""
        return self.entry is None or self.entry.operator


ANYBODY = Principal("", "")


class Keyring:
    """All keys. With `entries` None every request has the principal ANYBODY."""

    def __init__(
        self, entries: Sequence[KeyEntry] | None, unix_s: Callable[[], float] = time.time
    ) -> None:
        if entries is not None and not 1 <= len(entries) <= MAX_KEYS:
            raise UsageError(
                f"a keys file must have 1 to {MAX_KEYS} keys, got {len(entries)}; "
                "create one with python -m sllmreal.gateway.keys"
            )
        self._unix_s = unix_s
        self._principals = None
        if entries is not None:
            self._principals = [
                (bytes.fromhex(entry.sha256), Principal(entry.sha256[:16], entry.tenant, entry))
                for entry in entries
            ]
            if len({digest for digest, _ in self._principals}) != len(entries):
                raise UsageError("a keys file must have each sha256 once; remove the duplicates")

    def authenticate(self, authorization: str | None) -> Principal:
        """Return the principal of an Authorization header. Raises ApiError (401)."""
        if self._principals is None:
            return ANYBODY
        if authorization is None:
            raise unauthorised(
                "You did not provide an API key; send the header Authorization: Bearer <key>."
            )
        scheme, _, key = authorization.partition(" ")
        digest = hashlib.sha256(key.strip()[:_MAX_KEY_CHARS].encode()).digest()
        found: Principal | None = None
        # All keys are compared, so that the time taken does not depend on the key.
        for expected, principal in self._principals:
            if hmac.compare_digest(expected, digest):
                found = principal
        if found is None or scheme.lower() != "bearer" or self._expired(found):
            raise unauthorised("Incorrect API key provided; check it, or ask for a new one.")
        return found

    def _expired(self, principal: Principal) -> bool:
        entry = principal.entry
        return (
            entry is not None
            and entry.expires_at_s is not None
            and entry.expires_at_s <= self._unix_s()
        )


def load_keys(path: Path) -> list[KeyEntry]:
    """Return the entries of a keys file. Raises UsageError with the reason."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"cannot read the keys file {path}: {error.strerror}") from error
    try:
        raw = _content(descriptor)
        return msgspec.json.decode(raw, type=list[KeyEntry])
    except (UsageError, msgspec.DecodeError) as error:
        raise UsageError(f"the keys file {path} is invalid: {error}") from error
    finally:
        os.close(descriptor)


def _content(descriptor: int) -> bytes:
    """Return the bytes of an open keys file. Raises UsageError for an unsafe type or mode."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise UsageError("it is not a regular file")
    if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        mode = stat.S_IMODE(status.st_mode)
        raise UsageError(f"it is open to others (mode {mode:o}); run chmod 600")
    if status.st_size > _MAX_FILE_BYTES:
        raise UsageError(f"it has {status.st_size} bytes, more than {_MAX_FILE_BYTES}")
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(_MAX_FILE_BYTES)


def new_key(tenant: str) -> tuple[str, KeyEntry]:
    """Return a new key of 256 random bits, and its entry."""
    key = f"sllm-{secrets.token_urlsafe(32)}"
    return key, KeyEntry(hashlib.sha256(key.encode()).hexdigest(), tenant)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a new key for its user, and its entry for the keys file."""
    parser = argparse.ArgumentParser(prog="python -m sllmreal.gateway.keys", description=__doc__)
    parser.add_argument("--tenant", required=True, help="tenant that the key belongs to")
    key, entry = new_key(parser.parse_args(argv).tenant)
    sys.stdout.write(f"{key}\n{msgspec.json.encode(entry).decode()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
