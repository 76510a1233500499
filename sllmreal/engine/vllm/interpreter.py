"""The Python that vLLM engines run in, and what its processes need in their environment.

In order: `SLLM_VLLM_PYTHON`; `.venv-vllm`, which `make vllm` makes beside the project; the Python
that runs this, if vLLM is installed there. Needs no vLLM.
"""

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from sllmcore.errors import UsageError

VARIABLE = "SLLM_VLLM_PYTHON"
_PROJECT = Path(__file__).resolve().parents[3]
_PRELOADED = ("libtcmalloc_minimal.so.4", "libiomp5.so")
# What vLLM prints while it starts: dozens of lines that no operator can act on.
_QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TQDM_DISABLE": "1",
}
_LIBRARIES = (Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib/aarch64-linux-gnu"))


def vllm_python() -> Path:
    """Return the interpreter. Raises UsageError where vLLM is not set up."""
    if chosen := os.environ.get(VARIABLE):
        if not Path(chosen).is_file():
            raise UsageError(f"{VARIABLE} names {chosen}, which is not a file")
        return Path(chosen)
    for folder in (_PROJECT, Path.cwd()):
        python = folder / ".venv-vllm" / "bin" / "python"
        if python.is_file():
            return python
    if find_spec("vllm") is not None:
        return Path(sys.executable)
    raise UsageError(
        f"vLLM is not set up: run `make vllm`, or name the Python that has it in {VARIABLE}"
    )


def vllm_environment(python: Path) -> Mapping[str, str]:
    """Return the environment variables of a vLLM process: faster malloc and OpenMP, where present.

    vLLM's CPU build is several times as slow without them.
    """
    places = (*_LIBRARIES, python.parents[1] / "lib")
    found = [
        str(place / name) for name in _PRELOADED for place in places if (place / name).exists()
    ]
    paths = [str(_PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {name: os.environ.get(name, value) for name, value in _QUIET.items()}
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    if found:
        environment["LD_PRELOAD"] = ":".join(found)
    return environment
