"""The identity of a run: runs with equal digests have equal results.

    digest = sha256(config, bytes of the workload's files, code of the simulator and its inputs)

Code is hashed without docstrings and comments, so that a reworded docstring makes no result stale.
"""

import json
from functools import cache
from hashlib import sha256
from pathlib import Path

from experiments.config.run_config import RunConfig, plain_config
from sllmcore.code_text import code_text

_ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("sllmcore", "sllmsim", "traces", "experiments/config", "experiments/simulation")
SYSTEM_SOURCES = {  # additional sources of a replay against a real cluster
    "sllm": ("sllmreal", "experiments/real"),
    "ray_serve": ("sllmreal", "experiments/real", "experiments/ray_serve"),
}
_DIGEST_LETTERS = 12
_CHUNK_BYTES = 1 << 20


def digest(config: RunConfig) -> str:
    """Return the digest of a run, short enough for the name of a folder."""
    plain = plain_config(config) | {"name": ""}  # a name changes no result
    sources: tuple[str, ...] = SOURCES
    if config.driver.kind == "real":
        sources += SYSTEM_SOURCES[config.driver.system]
    parts = [json.dumps(plain, sort_keys=True), source_digest(sources)]
    parts += [_file_digest(Path(path)) for path in config.workload.files]
    return sha256("\n".join(parts).encode()).hexdigest()[:_DIGEST_LETTERS]


@cache
def source_digest(packages: tuple[str, ...] = SOURCES) -> str:
    """Return the digest of the program's code and data files below `packages`."""
    total = sha256()
    for package in packages:
        for path in sorted((_ROOT / package).rglob("*")):
            if path.suffix in (".py", ".json"):
                total.update(f"{path.relative_to(_ROOT)}\0".encode())
                total.update(code_bytes(path))
    return total.hexdigest()


def code_bytes(path: Path) -> bytes:
    """Return what a file contributes to a digest: the code of a Python file, else all its bytes."""
    return code_text(path.read_text()).encode() if path.suffix == ".py" else path.read_bytes()


def _file_digest(path: Path) -> str:
    total = sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            total.update(chunk)
    return total.hexdigest()
