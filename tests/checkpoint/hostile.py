"""Broken checkpoints of our format: at least one for every rule of SPEC.md, by kind."""

import base64
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.checkpoint.mutator import Hostile, Json, NativeMutator


def set_key(key: str, value: object) -> Callable[[Json], None]:
    return lambda body: body.__setitem__(key, value)


def set_tensor(key: str, value: object, number: int = 3) -> Callable[[Json], None]:
    return lambda body: body["tensors"][number].__setitem__(key, value)


def set_partition(key: str, value: object) -> Callable[[Json], None]:
    return lambda body: body["partitions"][0].__setitem__(key, value)


def add_asset(
    file: object, size_bytes: object = 1, sha256: object = "0" * 64
) -> Callable[[Json], object]:
    asset = {"file": file, "size_bytes": size_bytes, "sha256": sha256}
    return lambda body: body["assets"].append(asset)


BIG = (2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**200)
BAD_FILE_NAMES = ("", "..", ".", "a/b", "../x", "/etc/passwd", "a\0b", ".hidden", "x" * 129)


def native(mutator: NativeMutator) -> Iterator[Hostile]:
    """Yield the broken checkpoints of our format."""
    yield from _headers(mutator)
    yield from _bodies(mutator)
    yield from _tensors(mutator)
    yield from _placements(mutator)
    yield from _partitions(mutator)
    yield from _files(mutator)


def _headers(m: NativeMutator) -> Iterator[Hostile]:
    for length in (0, 1, 7, 8, 63, 64):
        yield Hostile("index cut", f"{length}", m.with_index(lambda raw, n=length: raw[:n]))
    for cut in (1, 100):
        yield Hostile("index cut", f"end-{cut}", m.with_index(lambda raw, n=cut: raw[:-n]))
    for extra in (b"\0", b" ", b"x" * 4096):
        yield Hostile("index tail", repr(extra[:1]), m.with_index(lambda raw, x=extra: raw + x))
    for magic in (b"SLLMCKPX", b"\0" * 8, b"PK\x03\x04aaaa", b"sllmckpt"):
        yield Hostile("magic", repr(magic), m.with_header(magic=magic))
    for version in (0, 2, 2**32 - 1):
        yield Hostile("version", f"{version}", m.with_header(version=version))
    for size in (0, 63, 65, 2**32 - 1):
        yield Hostile("header length", f"{size}", m.with_header(header_bytes=size))
    for size in (0, 1, 2**25 + 1, 2**63, 2**64 - 1):
        yield Hostile("body length", f"{size}", m.with_header(body_bytes=size))
    for size in (0, 4096, 2**64 - 1):
        yield Hostile("total length", f"{size}", m.with_header(total_bytes=size))
    for digest in (b"\0" * 32, b"\xff" * 32):
        yield Hostile("digest", repr(digest[:1]), m.with_header(digest=digest))
    yield Hostile("digest", "flip", m.with_index(lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])))


def _bodies(m: NativeMutator) -> Iterator[Hostile]:
    malformed: tuple[bytes, ...] = (
        b"{",
        b"[]",
        b"null",
        b"0",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
        b"{}" * 2,
    )
    malformed += (b'{"a":' * 50_000, b" ", b"\0", b"{'a':1}", b"NaN")
    for raw in malformed:
        yield Hostile("json", repr(raw[:8]), m.with_raw_body(lambda _, raw=raw: raw))
    for key in ("chunk_bytes", "partitions", "tensors", "metadata", "assets"):
        yield Hostile("missing key", key, m.with_body(lambda body, key=key: body.pop(key)))
        yield Hostile("wrong type", key, m.with_body(set_key(key, "text")))
        yield Hostile("null", key, m.with_body(set_key(key, None)))
        twice = f'"{key}":0,'.encode()
        yield Hostile(
            "duplicate key", key, m.with_raw_body(lambda raw, x=twice: b"{" + x + raw[1:])
        )
    yield Hostile("unknown key", "body", m.with_body(set_key("extra", 1)))
    yield Hostile("unknown key", "tensor", m.with_body(set_tensor("extra", 1)))
    yield Hostile("unknown key", "partition", m.with_body(set_partition("extra", 1)))
    spaced = (b" ", b"\n", b"\t")
    for space in spaced:
        yield Hostile("not canonical", repr(space), m.with_raw_body(lambda raw, s=space: raw + s))
    yield Hostile(
        "not canonical",
        "escape",
        m.with_raw_body(lambda raw: raw.replace(b"model", b"\\u006dodel")),
    )
    yield Hostile("not canonical", "default", m.with_body(set_tensor("view_offset", 0)))
    for value in (0, -4096, 1, 4095, 6144, 2**27, 2.5, "4096", *BIG):
        yield Hostile("chunk_bytes", f"{value}", m.with_body(set_key("chunk_bytes", value)))
    yield Hostile("metadata", "number", m.with_body(set_key("metadata", {"a": 1})))
    yield Hostile("metadata", "nested", m.with_body(set_key("metadata", {"a": {"b": "c"}})))


def _tensors(m: NativeMutator) -> Iterator[Hostile]:
    for dtype in ("float17", "", "F32", "qint8", "torch.float16", "x" * 10_000, "__class__"):
        yield Hostile("dtype", dtype[:12], m.with_body(set_tensor("dtype", dtype)))
    shapes = ([-1, 64], [2**63], [2**62, 2**62], [2**200], [1] * 65, [64, 65], [64.0, 64], "64")
    for shape in shapes:
        yield Hostile("shape", f"{shape}"[:20], m.with_body(set_tensor("shape", shape)))
    strides = ([-64, 1], [64], [64, 1, 1], [2**62, 1], [2**63, 2**63], [65, 1], [64, "1"])
    for stride in strides:
        yield Hostile("stride", f"{stride}"[:20], m.with_body(set_tensor("stride", stride)))
    for view in (-2, 1, 2, 8192, *BIG):
        yield Hostile("view_offset", f"{view}", m.with_body(set_tensor("view_offset", view)))
    names = ("", "a\0b", "a\nb", "\x7f", "\x85", "n" * 1025, "model.embed_tokens.weight")
    for name in names:
        yield Hostile("tensor name", repr(name[:8]), m.with_body(set_tensor("name", name)))
    yield Hostile("tensor name", "surrogate", m.with_body(set_tensor("name", "\ud800")))
    yield Hostile("tensor name", "number", m.with_body(set_tensor("name", 7)))


def _placements(m: NativeMutator) -> Iterator[Hostile]:
    for partition in (-1, 2, 10**6, *BIG):
        yield Hostile(
            "partition number", f"{partition}", m.with_body(set_tensor("partition", partition))
        )
    for offset in (-64, 1, 0, 2**40, *BIG):
        yield Hostile("offset", f"{offset}", m.with_body(set_tensor("offset", offset)))
    for size in (-1, 0, 1, 8191, 8193, 2**40, *BIG):
        yield Hostile("storage length", f"{size}", m.with_body(set_tensor("bytes", size)))

    def shift(step: int) -> Callable[[Json], None]:
        def change(body: Json) -> None:
            for tensor in body["tensors"][4:]:
                tensor["offset"] += step

        return change

    yield Hostile("overlap", "all later ones", m.with_body(shift(-64)))
    yield Hostile("gap", "before all later ones", m.with_body(shift(64)))
    yield Hostile("gap", "first", m.with_body(lambda body: body["tensors"].pop(0)))
    yield Hostile("gap", "middle", m.with_body(lambda body: body["tensors"].pop(5)))
    yield Hostile("gap", "last", m.with_body(lambda body: body["tensors"].pop()))
    yield Hostile("order", "reversed", m.with_body(lambda body: body["tensors"].reverse()))
    empty = {"name": "e", "partition": 0, "offset": 0, "bytes": 0, "dtype": "int8"}
    claims = ({"bytes": 64}, {"offset": 64}, {"partition": 1}, {"view_offset": 8})
    for claim in claims:
        entry = {**empty, "shape": [0], "stride": [1], **claim}
        yield Hostile(
            "empty claims", f"{claim}", m.with_body(lambda body, e=entry: body["tensors"].append(e))
        )


def _partitions(m: NativeMutator) -> Iterator[Hostile]:
    for name in (*BAD_FILE_NAMES, "index.sllm", "assets", "partition-00001.bin"):
        yield Hostile("partition file", repr(name[:20]), m.with_body(set_partition("file", name)))
    for size in (-4096, 0, 1, 4095, 2**30, *BIG):
        yield Hostile("partition size", f"{size}", m.with_body(set_partition("size_bytes", size)))
    hashes = ("", base64.b64encode(bytes(16)).decode(), "****", "A", 5)
    for value in hashes:
        yield Hostile("hashes", f"{value}", m.with_body(set_partition("chunk_hashes", value)))
    for sha in ("", "0" * 63, "G" * 64, "A" * 64, 3):
        yield Hostile("sha256", f"{sha}"[:8], m.with_body(set_partition("sha256", sha)))
    yield Hostile("partitions", "none", m.with_body(set_key("partitions", [])))
    yield Hostile(
        "partitions",
        "too many",
        m.with_body(lambda body: body["partitions"].extend([body["partitions"][1]] * 2000)),
    )
    for name in BAD_FILE_NAMES:
        yield Hostile("asset", repr(name[:20]), m.with_body(add_asset(name)))
    yield Hostile("asset", "negative", m.with_body(add_asset("a.json", -1)))
    yield Hostile("asset", "huge", m.with_body(add_asset("a.json", 2**40)))
    yield Hostile("asset", "sha256", m.with_body(add_asset("a.json", 1, "x")))


def _files(m: NativeMutator) -> Iterator[Hostile]:
    for number in (0, 1):
        file = f"partition-{number:05d}.bin"

        def missing(path: Path, file: str = file) -> None:
            (path / file).unlink()

        def replaced(path: Path, make: Callable[[Path], object], file: str = file) -> None:
            (path / file).unlink()
            make(path / file)

        kinds: dict[str, Callable[[Path], object]] = {
            "fifo": lambda target: os.mkfifo(target),
            "directory": lambda target: target.mkdir(),
            "link to /dev/zero": lambda target: target.symlink_to("/dev/zero"),
            "link to itself": lambda target: target.symlink_to(target.name),
            "link outside": lambda target: target.symlink_to("/etc/hostname"),
            "empty": lambda target: target.write_bytes(b""),
            "short": lambda target: target.write_bytes(bytes(4096)),
            "sparse": lambda target: _sparse(target, 1 << 40),
        }
        yield Hostile("missing file", file, m.with_files(missing))
        for name, make in kinds.items():
            yield Hostile(
                "odd file",
                f"{file} {name}",
                m.with_files(lambda path, make=make, put=replaced: put(path, make)),
            )
    odd: dict[str, Callable[[Path], object]] = {
        "fifo": lambda index: os.mkfifo(index),
        "directory": lambda index: index.mkdir(),
        "link": lambda index: index.symlink_to("partition-00000.bin"),
        "link to itself": lambda index: index.symlink_to("index.sllm"),
        "sparse": lambda index: _sparse(index, 1 << 40),
    }
    for name, make in odd.items():

        def swap(path: Path, make: Callable[[Path], object] = make) -> None:
            (path / "index.sllm").unlink()
            make(path / "index.sllm")

        yield Hostile("odd index", name, m.with_files(swap))


def _sparse(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        file.truncate(size_bytes)
