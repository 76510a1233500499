"""trace.json: how the trace of a run was read, for a workload that is read from files."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import msgspec

from experiments.simulation.run_folder import TRACE
from traces.report import TraceReport
from traces.spec import WorkloadSpec


def write_report(folder: Path, workload: WorkloadSpec, report: TraceReport) -> None:
    """Write the report into the folder of a run, unless the workload is generated."""
    if workload.files:
        plain = {"files": workload.files, **asdict(report)}
        (folder / TRACE).write_text(json.dumps(plain, indent=2) + "\n")


def print_reports(folders: Iterable[Path]) -> None:
    """Print the reports of runs on stderr, each line once."""
    lines: dict[str, None] = {}
    for folder in folders:
        path = folder / TRACE
        if path.is_file():
            report = msgspec.json.decode(path.read_bytes(), type=TraceReport)
            lines |= dict.fromkeys(report.lines())
    for line in lines:
        print(line, file=sys.stderr)
