"""Loads from an S3 service: signed URLs, broken connections, wrong bytes, wrong keys."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from experiments.campaigns.checkpoint.samples import assert_same, saved, small_model
from sllmreal.checkpoint import CorruptCheckpointError, read_layout, verify
from sllmreal.loader import RemoteError
from sllmreal.loader.remote import load_remote
from sllmreal.loader.remote_storage import remote_storage
from tests.loader.s3_server import BUCKET, S3, running_s3
from tests.loader.test_remote import FAST, SMALL

pytestmark = [
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("boto3", "moto", "flask", "flask_cors")),
        reason="an S3 service needs boto3, moto, flask and flask-cors",
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # inside botocore and moto
]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with running_s3() as service:
        yield service


def loaded_from(s3: S3, cache: Path | None, client: Any = None) -> dict[str, torch.Tensor]:
    with remote_storage(f"s3://{BUCKET}/model", FAST, client or s3.client()) as storage:
        return load_remote(storage, cache, options=SMALL)


@pytest.fixture
def uploaded(s3: S3, tmp_path: Path) -> Path:
    s3.drop_after_bytes.clear()
    s3.spoil = lambda raw: raw
    client = s3.client()
    for one in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=one["Key"])
    saved(tmp_path / "model", num_partitions=2)
    s3.upload(tmp_path / "model", "model")
    return tmp_path / "model"


def test_a_checkpoint_in_s3_loads_and_is_kept(s3: S3, uploaded: Path, tmp_path: Path) -> None:
    assert_same(loaded_from(s3, tmp_path / "cache"), small_model())

    layout = read_layout(uploaded)
    assert verify(tmp_path / "cache" / layout.identity).num_bytes == layout.size_bytes


def test_connections_that_s3_drops_are_resumed(s3: S3, uploaded: Path, tmp_path: Path) -> None:
    s3.drop_after_bytes[:] = [100, 0, 30_000]

    assert_same(loaded_from(s3, None), small_model())

    assert not s3.drop_after_bytes


def test_a_wrong_byte_from_s3_is_detected(s3: S3, uploaded: Path, tmp_path: Path) -> None:
    s3.spoil = lambda raw: raw if len(raw) < 50_000 else raw[:-1] + bytes([raw[-1] ^ 1])

    with pytest.raises(CorruptCheckpointError):
        loaded_from(s3, tmp_path / "cache")

    assert not (tmp_path / "cache" / read_layout(uploaded).identity).exists()


def test_a_wrong_key_is_a_typed_error(s3: S3, uploaded: Path, tmp_path: Path) -> None:
    with pytest.raises(RemoteError):
        loaded_from(s3, tmp_path / "cache", s3.client("a-wrong-secret"))


def test_no_key_at_all_is_a_typed_error(
    s3: S3, uploaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeded bug: an error of botocore is raised as it is."""
    boto3 = pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    client = boto3.session.Session().client("s3", endpoint_url=s3.url, region_name="us-east-1")

    with pytest.raises(RemoteError, match="cannot sign"):
        loaded_from(s3, tmp_path / "cache", client)


def test_safetensors_in_s3_load_and_are_kept(s3: S3, uploaded: Path, tmp_path: Path) -> None:
    client = s3.client()
    for one in client.list_objects_v2(Bucket=BUCKET)["Contents"]:
        client.delete_object(Bucket=BUCKET, Key=one["Key"])
    (tmp_path / "plain").mkdir()
    save_file(small_model(), tmp_path / "plain" / "model.safetensors")
    (tmp_path / "plain" / "config.json").write_text("{}")
    s3.upload(tmp_path / "plain", "model")

    assert_same(loaded_from(s3, tmp_path / "cache"), small_model())

    (copy,) = (tmp_path / "cache").iterdir()
    assert sorted(file.name for file in copy.iterdir()) == ["config.json", "model.safetensors"]
    original = (tmp_path / "plain" / "model.safetensors").read_bytes()
    assert (copy / "model.safetensors").read_bytes() == original
