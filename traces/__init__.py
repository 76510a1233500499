"""Workloads: readers of public traces and seeded generators, both as `WorkloadRequest`s.

    from traces import WorkloadSpec, workload_requests

    spec = WorkloadSpec(kind="azure_like", target_rps=2.0, duration_s=600.0)
    for item in workload_requests(spec, models=("opt-6.7b-0", "opt-6.7b-1"), seed=0):
        print(item.request.arrived_at_s, item.request.model, item.output_tokens)

Requests are made as they are taken, sorted by arrival, and depend on (spec, models, seed) only.
Each model has random streams of its own, so another model does not change them.
"""

from traces.account import Account
from traces.errors import FetchError, TraceError
from traces.export import export_requests
from traces.formats.table import Columns
from traces.popularity import Popularity
from traces.read import ReadOptions, read_trace
from traces.report import TraceReport
from traces.rows import TraceRow
from traces.spec import WorkloadSpec
from traces.spec_dict import spec_from_dict
from traces.workload import workload_requests

__all__ = [
    "Account",
    "Columns",
    "FetchError",
    "Popularity",
    "ReadOptions",
    "TraceError",
    "TraceReport",
    "TraceRow",
    "WorkloadSpec",
    "export_requests",
    "read_trace",
    "spec_from_dict",
    "workload_requests",
]
