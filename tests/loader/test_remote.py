"""Remote checkpoints are verified, stored on the SSD and resumed, whatever a server does."""

import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest
import torch

from experiments.campaigns.checkpoint.samples import assert_same, saved, small_model
from sllmcore.errors import UsageError
from sllmreal.checkpoint import BadCheckpointError, CorruptCheckpointError, read_layout, verify
from sllmreal.checkpoint.convert import WriteOptions, save_checkpoint
from sllmreal.checkpoint.errors import StorageError
from sllmreal.loader import ChunkPool, LoadOptions, RemoteError
from sllmreal.loader.plan import ChunkRead
from sllmreal.loader.remote import load_remote, loading_remote
from sllmreal.loader.remote_storage import RetryOptions, remote_storage
from sllmreal.loader.write_through import WriteThrough
from tests.loader.range_server import Behaviour, serving

SMALL = LoadOptions(chunk_bytes=65536, num_readers=3)
FAST = RetryOptions(max_attempts=3, first_pause_s=0.001, timeout_s=5)


def loaded_from(
    url: str, cache: Path, pool: ChunkPool | None = None, options: LoadOptions = SMALL
) -> dict[str, torch.Tensor]:
    with remote_storage(url, retry=FAST) as storage:
        return load_remote(storage, cache, pool=pool, options=options)


def test_a_remote_checkpoint_loads_and_is_kept(tmp_path: Path) -> None:
    saved(tmp_path / "model", num_partitions=2)
    behaviour = Behaviour(tmp_path / "model")

    with serving(behaviour) as url:
        loaded = loaded_from(url, tmp_path / "cache")
        sent_bytes = behaviour.sent_bytes
        again = loaded_from(url, tmp_path / "cache")

    layout = read_layout(tmp_path / "model")
    assert_same(loaded, small_model())
    assert_same(again, small_model())
    assert verify(tmp_path / "cache" / layout.identity).num_bytes == layout.size_bytes
    assert behaviour.sent_bytes - sent_bytes < layout.size_bytes // 10
    assert not list((tmp_path / "cache").glob(".*"))


def test_tensors_do_not_wait_for_a_slow_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "model", num_partitions=2)
    disk_goes_on = threading.Event()
    store = WriteThrough.keep

    def slow(copy: WriteThrough, read: ChunkRead, address: int) -> None:
        assert disk_goes_on.wait(30)
        store(copy, read, address)

    monkeypatch.setattr(WriteThrough, "keep", slow)
    with (
        serving(Behaviour(tmp_path / "model")) as url,
        remote_storage(url, retry=FAST) as storage,
        loading_remote(storage, tmp_path / "cache", options=SMALL) as loaded,
    ):
        assert_same(loaded, small_model())
        disk_goes_on.set()

    layout = read_layout(tmp_path / "model")
    assert verify(tmp_path / "cache" / layout.identity).num_bytes == layout.size_bytes


def test_an_error_of_the_disk_is_raised_after_the_tensors_are_yielded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "model")
    yielded: list[dict[str, torch.Tensor]] = []
    tensors_are_yielded = threading.Event()

    def full(copy: WriteThrough, read: ChunkRead, address: int) -> None:
        assert tensors_are_yielded.wait(30)
        raise StorageError("No space left on device")

    monkeypatch.setattr(WriteThrough, "keep", full)
    with (
        pytest.raises(StorageError, match="No space left"),
        serving(Behaviour(tmp_path / "model")) as url,
        remote_storage(url, retry=FAST) as storage,
        loading_remote(storage, tmp_path / "cache", options=SMALL) as loaded,
    ):
        yielded.append(loaded)
        tensors_are_yielded.set()

    assert_same(yielded[0], small_model())


def test_the_pool_and_the_assets_are_filled_as_well(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assets = [tmp_path / "config.json"]
    options = WriteOptions(chunk_bytes=4096)
    layout = save_checkpoint(small_model(), tmp_path / "model", options, assets)

    with (
        serving(Behaviour(tmp_path / "model")) as url,
        ChunkPool(4 << 20, chunk_bytes=2 << 20) as pool,
    ):
        assert_same(loaded_from(url, tmp_path / "cache", pool=pool), small_model())
        assert pool.status().resident_bytes == {layout.identity: layout.size_bytes}

    copied = tmp_path / "cache" / layout.identity / "assets" / "config.json"
    assert copied.read_text() == "{}"


def test_dropped_connections_are_resumed_where_they_broke(tmp_path: Path) -> None:
    layout = saved(tmp_path / "model")
    behaviour = Behaviour(tmp_path / "model", drop_after_bytes=[100, 5000, 0, 40_000, 1])

    with serving(behaviour) as url:
        loaded = loaded_from(url, tmp_path / "cache")

    assert_same(loaded, small_model())
    index_bytes = (tmp_path / "model" / "index.sllm").stat().st_size
    assert behaviour.sent_bytes <= layout.size_bytes + index_bytes + 1


def test_passing_errors_of_the_server_are_retried(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    behaviour = Behaviour(tmp_path / "model", statuses=[503, 500])

    with serving(behaviour) as url:
        assert_same(loaded_from(url, tmp_path / "cache"), small_model())


@pytest.mark.parametrize("statuses", [[503] * 9, [403], [200], [416]])
def test_lasting_errors_are_typed(tmp_path: Path, statuses: list[int]) -> None:
    saved(tmp_path / "model")

    behaviour = Behaviour(tmp_path / "model", statuses=statuses)
    with serving(behaviour) as url, pytest.raises(RemoteError):
        loaded_from(url, tmp_path / "cache")


def _wait_for_bytes(file: Path, least: int = 1) -> None:
    deadline_s = time.monotonic() + 20
    while file.stat().st_size < least and time.monotonic() < deadline_s:
        time.sleep(0.01)


def test_a_wrong_byte_is_detected_and_verified_chunks_are_kept(tmp_path: Path) -> None:
    layout = saved(tmp_path / "model")

    def spoil(name: str, offset: int, raw: bytes) -> bytes:
        if name.endswith(".bin") and offset == 3 * 65536:
            _wait_for_bytes(tmp_path / "cache" / f".{layout.identity}.partial" / "stored")
            return raw[:-1] + bytes([raw[-1] ^ 1])
        return raw

    bad = Behaviour(tmp_path / "model", spoil=spoil)
    good = Behaviour(tmp_path / "model")
    with serving(bad) as url, pytest.raises(CorruptCheckpointError):
        loaded_from(url, tmp_path / "cache")
    assert not (tmp_path / "cache" / layout.identity).exists()
    with serving(good) as url:
        assert_same(loaded_from(url, tmp_path / "cache"), small_model())

    assert good.sent_bytes < layout.size_bytes


def test_a_corrupt_copy_on_the_ssd_is_fetched_again(tmp_path: Path) -> None:
    layout = saved(tmp_path / "model")

    def spoil(name: str, offset: int, raw: bytes) -> bytes:
        return raw if offset < 262144 else b"x" * len(raw)

    bad = Behaviour(tmp_path / "model", spoil=spoil)
    with serving(bad) as url, pytest.raises(CorruptCheckpointError):
        loaded_from(url, tmp_path / "cache")
    partial = tmp_path / "cache" / f".{layout.identity}.partial" / "partition-00000.bin"
    with partial.open("r+b") as file:
        file.write(b"spoilt")

    with serving(Behaviour(tmp_path / "model")) as url:
        assert_same(loaded_from(url, tmp_path / "cache"), small_model())

    assert verify(tmp_path / "cache" / layout.identity).num_chunks > 0


def test_an_object_replaced_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    behaviour = Behaviour(tmp_path / "model", later_etag=(65536, '"2"'))

    with serving(behaviour) as url, pytest.raises(RemoteError, match="changed"):
        loaded_from(url, tmp_path / "cache", options=LoadOptions(chunk_bytes=65536, num_readers=1))


def test_an_object_that_is_not_a_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.sllm").write_bytes(b"x" * 1000)

    with serving(Behaviour(tmp_path)) as url, pytest.raises(BadCheckpointError):
        loaded_from(url, tmp_path / "cache")


def test_an_s3_store_is_read_through_signed_urls(tmp_path: Path) -> None:
    saved(tmp_path / "bucket" / "models" / "model")
    behaviour = Behaviour(tmp_path / "bucket")

    with serving(behaviour) as url:

        class Client:
            def generate_presigned_url(self, operation: str, Params: dict[str, str]) -> str:  # noqa: N803
                assert operation == "get_object"
                assert Params["Bucket"] == "bucket"
                return f"{url}/{Params['Key']}?signature=1"

        with remote_storage("s3://bucket/models/model", retry=FAST, client=Client()) as store:
            assert_same(load_remote(store, tmp_path / "cache", options=SMALL), small_model())

    assert all(request.endswith("?signature=1") for request in behaviour.requests)


def test_redirections_are_followed_and_loops_of_them_are_not(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    behaviour = Behaviour(tmp_path / "model")

    with serving(behaviour) as url:
        behaviour.redirects = {"/moved/": "/"}
        assert_same(loaded_from(f"{url}/moved", tmp_path / "cache"), small_model())
        behaviour.redirects = {"/": "/on/"}
        with pytest.raises(RemoteError, match="redirections"):
            loaded_from(url, tmp_path / "other")


@pytest.mark.parametrize("url", ["ftp://x/y", "s3://", "/local", ""])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="remote storage"):
        remote_storage(url)


def test_kept_connections_that_the_server_closed_do_not_use_up_attempts(tmp_path: Path) -> None:
    """Seeded bug: each closed connection counts as an attempt."""
    saved(tmp_path / "model")
    behaviour = Behaviour(tmp_path / "model")
    target = memoryview(bytearray(100))

    with serving(behaviour) as url, remote_storage(url, retry=FAST) as storage:
        threads = [
            threading.Thread(target=storage.read_into, args=("partition-00000.bin", n, target))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for kept in storage._idle.values():
            assert len(kept) > 3
            for connection in kept:
                connection._socket.shutdown(socket.SHUT_RDWR)
        storage.read_into("partition-00000.bin", 5, target)

    assert bytes(target) == (tmp_path / "model" / "partition-00000.bin").read_bytes()[5:105]


def test_a_silent_server_times_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        retry = RetryOptions(max_attempts=2, first_pause_s=0.001, timeout_s=0.05)
        with (
            remote_storage(url, retry=retry) as storage,
            pytest.raises(RemoteError, match="gave up"),
        ):
            storage.object_bytes("index.sllm")


ANSWERS = [
    b"",
    b"nonsense\r\n\r\n",
    b"HTTP/1.1 206 OK\r\nno colon\r\n\r\n",
    b"HTTP/1.0 206 OK\r\n\r\n",
    b"x" * 200_000,
]


@pytest.mark.parametrize("answer", ANSWERS, ids=["none", "nonsense", "header", "old", "long"])
def test_a_malformed_answer_is_a_typed_error(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            for _ in range(3):
                with contextlib.suppress(OSError), server.accept()[0] as connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=talk)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with remote_storage(url, retry=FAST) as storage, pytest.raises(RemoteError):
            storage.object_bytes("index.sllm")
        thread.join()
