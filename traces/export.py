"""Jobs as Mooncake-style JSON lines, which this package and most replayers read.

    {"timestamp": 27482.5, "input_length": 512, "output_length": 52, "model": "opt-6.7b-3"}

`timestamp` is in milliseconds from the start; it is not rounded, so that `kind: jobs` reads the
same arrival times to the last bit but one.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from sllmcore.workload import WorkloadRequest
from traces.atomic_file import atomic_path
from traces.errors import TraceError


def export_jobs(jobs: Iterable[WorkloadRequest], path: Path) -> int:
    """Writes `path` whole or not at all; returns the number of jobs. Raises TraceError."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise TraceError("cannot be written: a directory, or in none that exists", path)
    num = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for job in jobs:
            file.write(json_line(job))
            num += 1
    return num


def json_line(job: WorkloadRequest) -> str:
    request = job.request
    record = {
        "timestamp": request.arrived_at_s * 1000.0,
        "input_length": request.input_tokens,
        "output_length": job.output_tokens,
        "model": request.model,
    }
    return json.dumps(record) + "\n"
