"""Checks of a workload's requests: there is one, and none is longer than any model's context."""

import math
from collections.abc import Iterator

from sllmcore.workload import WorkloadRequest
from traces.account import Account
from traces.errors import TraceError
from traces.report import TraceReport
from traces.spec import WorkloadSpec

MAX_LIKELY_TOKENS = 2_000_000  # the longest context of a model that is served in production


def with_long_ones_noted(
    requests: Iterator[WorkloadRequest], report: TraceReport
) -> Iterator[WorkloadRequest]:
    """Yield requests, and note the first one that is longer than any context."""
    longest: float = MAX_LIKELY_TOKENS
    for item in requests:
        num_tokens = item.request.input_tokens + item.output_tokens
        if num_tokens > longest:
            longest = math.inf
            report.note(
                f"request {item.request.id} has {num_tokens} tokens, more than the context of any "
                "model: check the lengths, or cut them by workload.total_limit_tokens"
            )
        yield item


def at_least_one(
    spec: WorkloadSpec, requests: Iterator[WorkloadRequest], account: Account
) -> Iterator[WorkloadRequest]:
    """Yield requests.

    Raises:
        TraceError: At the end, if there was none; the message has the reason.
    """
    yield from requests
    if not account.jobs:
        path = spec.paths[0] if spec.paths else None
        raise TraceError(f"the workload has no requests: {_why_empty(spec, account)}", path)


def _why_empty(spec: WorkloadSpec, account: Account) -> str:
    rows = account.rows_read
    end_s = spec.start_s + (spec.duration_s or 0.0)
    reasons = {
        f"no arrival in {end_s:g} s at {spec.target_rps or 0.0:g} requests/s": spec.generated,
        "the trace has no rows": rows == 0,
        f"all {rows} rows are failures (failed_rows=keep keeps them)": account.failed_dropped
        == rows,
        f"no row is at start_s={spec.start_s:g} s or later": account.before_start
        + account.failed_dropped
        == rows,
        f"the Gamma processes in place of {account.replaced} rows have no arrival": account.replaced
        > account.generated,
        f"no row is between {spec.start_s:g} s and {end_s:g} s": account.after_end
        > account.thinned,
    }
    found = (reason for reason, applies in reasons.items() if applies)
    return next(found, "no row was kept at this rate")
