"""Equal (spec, models, seed) give equal bytes in any process."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from traces.export import json_line
from traces.spec import WorkloadSpec
from traces.workload import workload_requests

SCRIPT = """
from tests.traces.test_determinism import digest
print(digest())
"""


SPECS: tuple[dict[str, Any], ...] = (
    {"kind": "gamma"},
    {"kind": "poisson"},
    {"kind": "azure_like", "pattern": "conv"},
    {"kind": "azure_like", "pattern": "code"},
    {"kind": "azure_like", "num_functions": 50, "diurnal": "code"},
)


def digest() -> str:
    """Return the digest of requests of every generator."""
    lines: list[str] = []
    for fields in SPECS:
        lines += requests_text(WorkloadSpec(target_rps=3.0, max_requests=200, **fields))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def requests_text(spec: WorkloadSpec) -> list[str]:
    return [json_line(item) for item in workload_requests(spec, ("a", "b", "c"), 11)]


def test_other_processes_with_other_hash_seeds_make_the_same_requests() -> None:
    digests = {digest()}

    for hash_seed in ("0", "4711"):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(run.stdout.strip())

    assert len(digests) == 1
