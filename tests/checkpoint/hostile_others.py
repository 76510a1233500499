"""Broken safetensors files and shard indexes, and paths without any checkpoint."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from tests.checkpoint.mutator import Build, Hostile


def safetensors() -> Iterator[Hostile]:
    """Yield broken safetensors files and shard indexes."""
    good = {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}

    def file(header: object, data: bytes = bytes(16), length: int | None = None) -> Build:
        raw = header if isinstance(header, bytes) else json.dumps(header).encode()
        size = len(raw) if length is None else length

        def build(path: Path) -> None:
            path.mkdir()
            content = size.to_bytes(8, "little") + raw + data
            (path / "model.safetensors").write_bytes(content)

        return build

    def entry(**changes: object) -> dict[str, object]:
        return {"a": {**good["a"], **changes}}

    for length in (0, 1, 10**6, 2**25 + 1, 2**63, 2**64 - 1):
        yield Hostile("safetensors length", f"{length}", file(good, length=length))
    for raw in (b"{", b"[]", b" {}", b"nul", b"\xff\xff", b"[" * 50_000, b'{"a":' * 50_000):
        yield Hostile("safetensors json", repr(raw[:8]), file(raw))
    for dtype in ("f32", "F33", "", "F6_E2M3", "I4"):
        yield Hostile("safetensors dtype", dtype, file(entry(dtype=dtype)))
    for shape in ([2, 3], [-2, -2], [2**63, 2], [2**40, 2**40], [1] * 70, [4.0], None):
        yield Hostile("safetensors shape", f"{shape}"[:16], file(entry(shape=shape)))
    for offsets in ([16, 0], [-16, 0], [0, 15], [1, 17], [0, 2**64], [0], [0, 16, 16], "0"):
        yield Hostile("safetensors offsets", f"{offsets}", file(entry(data_offsets=offsets)))
    two = {**good, "b": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}}
    yield Hostile("safetensors overlap", "b over a", file(two, bytes(24)))
    apart = {**good, "b": {"dtype": "F32", "shape": [4], "data_offsets": [20, 36]}}
    yield Hostile("safetensors gap", "between", file(apart, bytes(36)))
    yield Hostile("safetensors gap", "tail", file(good, bytes(17)))
    yield Hostile("safetensors gap", "cut", file(good, bytes(15)))
    yield Hostile("safetensors gap", "no data", file(good, b""))
    yield Hostile("safetensors extra", "field", file(entry(extra=1)))
    yield Hostile("safetensors extra", "metadata", file({**good, "__metadata__": {"a": 1}}))
    yield Hostile("safetensors name", "control", file({"a\n": good["a"]}))
    yield from _shard_indexes()


def _shard_indexes() -> Iterator[Hostile]:
    def index(content: object) -> Build:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()

        def build(path: Path) -> None:
            path.mkdir()
            (path / "model.safetensors.index.json").write_bytes(raw)

        return build

    for name in (
        "../x.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "x.bin",
        "",
        "no.safetensors",
    ):
        yield Hostile("shard index", repr(name), index({"weight_map": {"a": name}}))
    for raw in (b"{", b"[]", b'{"weight_map":{}}', b'{"weight_map":[]}', b'{"weight_map":{"a":1}}'):
        yield Hostile("shard index", repr(raw), index(raw))
    many = {f"t{number}": f"s{number}.safetensors" for number in range(5000)}
    yield Hostile("shard index", "many", index({"weight_map": many}))


def others() -> Iterator[Hostile]:
    """Yield paths without any checkpoint."""
    yield Hostile("no checkpoint", "nothing", lambda path: None)
    yield Hostile("no checkpoint", "empty directory", lambda path: path.mkdir())
    yield Hostile("no checkpoint", "fifo", lambda path: os.mkfifo(path))
    yield Hostile("no checkpoint", "device", lambda path: path.symlink_to("/dev/zero"))
    yield Hostile("no checkpoint", "pickle", lambda path: path.write_bytes(b"\x80\x02."))
    yield Hostile("no checkpoint", "text", lambda path: path.write_bytes(b"hello, world"))
    yield Hostile("no checkpoint", "loop", lambda path: path.symlink_to(path))
