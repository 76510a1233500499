"""API keys, the keys file, and the addresses that a gateway without keys may listen on."""

import json
import os
from pathlib import Path

import pytest

from experiments.campaigns.gateway.clients import keys_file
from sllmcore.errors import UsageError
from sllmreal.gateway import keys
from sllmreal.gateway.errors import ApiError
from sllmreal.gateway.keys import KeyEntry, Keyring, load_keys, new_key
from sllmreal.gateway.settings import GatewaySettings


def test_a_new_key_is_accepted_for_the_tenant_of_its_entry(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert keys.main(["--tenant", "a"]) == 0
    key, entry = capsys.readouterr().out.splitlines()

    principal = Keyring([KeyEntry(**json.loads(entry))]).authenticate(f"Bearer {key}")

    assert principal.tenant == "a"
    assert key not in entry


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic {key}", "{key}"]
)
def test_a_wrong_header_is_refused(header: str | None) -> None:
    key, entry = new_key("a")

    with pytest.raises(ApiError) as refusal:
        Keyring([entry]).authenticate(None if header is None else header.format(key=key))

    assert refusal.value.status == 401


def test_a_key_is_refused_after_its_expiry() -> None:
    key, entry = new_key("a")
    expiring = KeyEntry(entry.sha256, "a", expires_at_s=100.0)
    now_s = 99.0
    keyring = Keyring([expiring], lambda: now_s)

    assert keyring.authenticate(f"Bearer {key}").tenant == "a"
    now_s = 100.0
    with pytest.raises(ApiError):
        keyring.authenticate(f"Bearer {key}")


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o666])
def test_a_keys_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = keys_file(tmp_path, one={"tenant": "a"})
    path.chmod(mode)

    with pytest.raises(UsageError, match="open to others"):
        load_keys(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'[{"sha256": "00", "tenant": "a"}]',
        b'[{"sha256": "%s", "tenant": "a", "admin": true}]' % (b"0" * 64),
        b'[{"sha256": "%s", "tenant": "a", "max_requests": 0}]' % (b"0" * 64),
        b'[{"sha256": "%s"}]' % (b"0" * 64),
    ],
)
def test_an_invalid_keys_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(UsageError):
        load_keys(path)


def test_a_keys_file_that_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)

    for name in ("fifo", "absent", "."):
        with pytest.raises(UsageError):
            load_keys(tmp_path / name)


def test_an_empty_list_and_a_duplicate_key_are_refused() -> None:
    _, entry = new_key("a")

    for entries in ([], [entry, entry]):
        with pytest.raises(UsageError):
            Keyring(entries)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_a_gateway_without_keys_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(UsageError, match="without keys_file listens on loopback only"):
        GatewaySettings(host)
    GatewaySettings(host, keys_file=Path("keys.json"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_a_gateway_on_loopback_needs_no_keys(host: str) -> None:
    assert GatewaySettings(host).keys_file is None
