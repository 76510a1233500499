"""Changes of a valid checkpoint in one place, with digests and lengths made to fit."""

import copy
import hashlib
import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.campaigns.checkpoint.samples import saved

Json = Any
Build = Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Hostile:
    """A broken checkpoint: its kind, its name within the kind, and a function that builds it."""

    kind: str
    name: str
    build: Build


class NativeMutator:
    """The index of a valid checkpoint; each method returns a function that builds a broken one."""

    def __init__(self, directory: Path) -> None:
        self._source = directory / "sound"
        saved(self._source, num_partitions=2)
        index = (self._source / "index.sllm").read_bytes()
        self.header = struct.unpack("<8sIIQQ32s", index[:64])
        self.body: Json = json.loads(index[64:])

    def with_body(self, change: Callable[..., object]) -> Build:
        """Change the index's JSON; digest and lengths fit."""

        def build(path: Path) -> None:
            body = copy.deepcopy(self.body)
            changed = change(body)
            self._write(path, encoded(changed if isinstance(changed, dict) else body), {})

        return build

    def with_raw_body(self, change: Callable[..., bytes]) -> Build:
        return lambda path: self._write(path, change(encoded(self.body)), {})

    def with_header(self, **fields: object) -> Build:
        return lambda path: self._write(path, encoded(self.body), fields)

    def with_index(self, change: Callable[..., bytes]) -> Build:
        def build(path: Path) -> None:
            self._write(path, encoded(self.body), {})
            index = path / "index.sllm"
            index.write_bytes(change(index.read_bytes()))

        return build

    def with_files(self, change: Callable[..., object]) -> Build:
        def build(path: Path) -> None:
            self._write(path, encoded(self.body), {})
            change(path)

        return build

    def _write(self, path: Path, body: bytes, fields: dict[str, object]) -> None:
        path.mkdir()
        names = ("magic", "version", "header_bytes", "body_bytes", "total_bytes", "digest")
        values = dict(zip(names, self.header, strict=True))
        values |= {"body_bytes": len(body), "digest": hashlib.sha256(body).digest()}
        try:
            decoded = json.loads(body)
            values["total_bytes"] = sum(part["size_bytes"] for part in decoded["partitions"])
            if not 0 <= values["total_bytes"] < 2**64:
                values["total_bytes"] = 0
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        values |= fields
        header = struct.pack("<8sIIQQ32s", *(values[name] for name in names))
        (path / "index.sllm").write_bytes(header + body)
        for part in self.body["partitions"]:
            os.link(self._source / part["file"], path / part["file"])


def encoded(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode(
        errors="surrogatepass"
    )
