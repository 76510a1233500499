"""Structure-aware fuzzing of the parsers.

    python -m experiments.campaigns.checkpoint.fuzz --executions 50000000

A mutant is parsed JSON, changed in a few places and encoded canonically with a correct digest, so
that it passes the outer checks; one in eight is changed as bytes instead. A parser must reject a
mutant with BadCheckpointError, or return tensors that all lie inside their partitions.
"""

import argparse
import base64
import hashlib
import json
import os
import random
import struct
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from experiments.campaigns.checkpoint.samples import saved
from sllmreal.checkpoint.errors import BadCheckpointError
from sllmreal.checkpoint.index import decode_index
from sllmreal.checkpoint.layout import Layout, span_bytes
from sllmreal.checkpoint.safetensors_header import parse_header

Json = Any
_HEADER = struct.Struct("<8sIIQQ32s")
_NUMBERS: tuple[int, ...] = (
    0,
    1,
    -1,
    2,
    63,
    64,
    65,
    4095,
    4096,
    4097,
    8192,
    2**31,
    2**32,
    2**62,
    2**63 - 1,
    2**63,
)
_NUMBERS += (2**64 - 1, 2**64, 2**65, 10**30)
_STRINGS = ("", "a", "..", "float16", "float32", "int8", "F16", "F32", "I8", "F4", "0" * 64, "\0")


@dataclass(frozen=True, slots=True)
class FuzzCounts:
    """Numbers of mutants: run, and accepted by a parser."""

    executions: int
    accepted: int


def fuzz(executions: int, seed: int, directory: Path) -> FuzzCounts:
    """Run that many mutants. Raises AssertionError at any other exception, or at a bad view."""
    rng = random.Random(seed)
    saved(directory / f"sound-{seed}", num_partitions=2, chunk_bytes=65536)
    index = (directory / f"sound-{seed}" / "index.sllm").read_bytes()
    header = _HEADER.unpack_from(index)
    native = _reduced(json.loads(index[64:]))
    plain = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
        "c": {"dtype": "F4", "shape": [4], "data_offsets": [22, 24]},
    }
    accepted = 0
    for execution in range(executions):
        if execution % 3:
            accepted += _survives(lambda: _native(rng, native, header), seed, execution)
        else:
            accepted += _survives(lambda: _plain(rng, plain), seed, execution)
    return FuzzCounts(executions, accepted)


def _reduced(body: Json) -> Json:
    """Keep the first three tensors: small mutants run fast and still reach every rule."""
    keep = body["tensors"][:3]
    end = max(tensor["offset"] + tensor["bytes"] for tensor in keep)
    part = body["partitions"][0]
    part["size_bytes"] = -(-end // 4096) * 4096
    num_chunks = -(-part["size_bytes"] // 65536)
    part["chunk_hashes"] = _base64(num_chunks)
    return body | {"tensors": keep, "partitions": [part]}


def _base64(num_chunks: int) -> str:
    return base64.b64encode(bytes(16 * num_chunks)).decode()


def _survives(run: Callable[[], None], seed: int, execution: int) -> bool:
    try:
        run()
    except BadCheckpointError:
        return False
    except BaseException as error:
        raise AssertionError(f"seed {seed}, execution {execution}: {error!r}") from error
    return True


def _native(rng: random.Random, body: Json, header: tuple[Any, ...]) -> None:
    mutant = _mutated(rng, body)
    raw = _encoded(mutant)
    if rng.random() < 0.125:
        raw = _flipped(rng, raw)
    try:
        total = sum(part["size_bytes"] for part in mutant["partitions"])
        total = int(total) if 0 <= total < 2**64 else 0
    except (TypeError, KeyError):
        total = header[4]
    digest = hashlib.sha256(raw).digest()
    head = _HEADER.pack(header[0], header[1], header[2], len(raw), total, digest)
    _check_inside(decode_index(head + raw, Path("fuzz")))


def _encoded(mutant: Json) -> bytes:
    try:
        return msgspec.json.encode(mutant)
    except (OverflowError, UnicodeEncodeError):  # numbers beyond 64 bits
        return json.dumps(mutant, separators=(",", ":"), ensure_ascii=False).encode()


def _plain(rng: random.Random, header: Json) -> None:
    raw = _encoded(_mutated(rng, header))
    if rng.random() < 0.125:
        raw = _flipped(rng, raw)
    file_bytes = 8 + len(raw) + 24
    for tensor in parse_header(raw, file_bytes, "fuzz", 0).tensors:
        size_bytes = span_bytes(tensor.dtype, tensor.shape, tensor.stride)
        assert 0 <= tensor.begin_bytes <= tensor.begin_bytes + size_bytes <= file_bytes


def _check_inside(layout: Layout) -> None:
    for tensor in layout.tensors:
        size_bytes = span_bytes(tensor.dtype, tensor.shape, tensor.stride)
        part = layout.partitions[tensor.partition]
        assert 0 <= tensor.begin_bytes <= tensor.begin_bytes + size_bytes <= part.size_bytes


def _mutated(rng: random.Random, value: Json) -> Json:
    """Return a copy with one to three places changed."""
    mutant = msgspec.json.decode(msgspec.json.encode(value))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _mutate_once(rng, mutant)
    return mutant


def _mutate_once(rng: random.Random, root: Json) -> None:
    """Walk down to a random place, possibly stopping on the way, and change it."""
    node = root
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = rng.choice(keys)
        child = node[key]
        if isinstance(child, dict | list) and child and rng.random() < 0.9:
            node = child
            continue
        _change(rng, node, key)
        return


def _change(rng: random.Random, node: Json, key: Any) -> None:
    old = node[key]
    action = rng.randrange(8)
    if action == 0:
        del node[key]
    elif action == 1:
        node[key] = rng.choice(_NUMBERS)
    elif action == 2:
        node[key] = rng.choice(_STRINGS)
    elif action == 3 and isinstance(old, int):
        node[key] = old + rng.choice((-4096, -64, -8, -1, 1, 8, 64, 4096))
    elif action == 4 and isinstance(node, list):
        node.insert(key, old)
    elif action == 5 and isinstance(node, dict):
        node[rng.choice(_STRINGS)] = old
    elif action == 6 and isinstance(old, str) and old:
        node[key] = old[: rng.randrange(len(old))]
    else:
        node[key] = rng.choice((None, True, [], {}, 1.5, [old], {"x": old}))


def _flipped(rng: random.Random, raw: bytes) -> bytes:
    changed = bytearray(raw)
    for _ in range(rng.randrange(1, 4)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _run(job: tuple[int, int, str]) -> FuzzCounts:
    executions, seed, directory = job
    return fuzz(executions, seed, Path(directory))


def main() -> int:
    """Fuzz in several processes, in batches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, default=50_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    batch = 250_000
    batches = -(-arguments.executions // batch)
    done = accepted = 0
    with (
        tempfile.TemporaryDirectory() as directory,
        ProcessPoolExecutor(arguments.processes) as processes,
    ):
        jobs = [(batch, arguments.seed + number, directory) for number in range(batches)]
        for counts in processes.map(_run, jobs):
            done += counts.executions
            accepted += counts.accepted
            print(f"{done} executions, {accepted} accepted, 0 crashes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
