"""Requests of a workload as Mooncake-style JSON lines, which most replayers read.

    {"timestamp": 27482.5, "input_length": 512, "output_length": 52, "model": "opt-6.7b-3"}

`timestamp` is in milliseconds from the start. It is not rounded: `kind: jobs` reads the same
arrival times (relative error below 1e-15).
"""

import json
from collections.abc import Iterable
from pathlib import Path

from sllmcore.workload import WorkloadRequest
from traces.atomic_file import atomic_path
from traces.errors import TraceError


def export_requests(requests: Iterable[WorkloadRequest], path: Path) -> int:
    """Write requests to `path`, atomically, and return their number.

    Raises:
        TraceError: `path` cannot be written, or the workload cannot be read.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise TraceError("cannot be written: give a file name in an existing directory", path)
    num = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for item in requests:
            file.write(json_line(item))
            num += 1
    return num


def json_line(item: WorkloadRequest) -> str:
    """Return a request as a JSON object and a line end."""
    request = item.request
    record = {
        "timestamp": request.arrived_at_s * 1000.0,
        "input_length": request.input_tokens,
        "output_length": item.output_tokens,
        "model": request.model,
    }
    return json.dumps(record) + "\n"
