"""The reason why a workload has no requests."""

from traces.account import Account
from traces.spec import WorkloadSpec


def why_empty(spec: WorkloadSpec, account: Account) -> str:
    """Return the reason, from the counts of a workload without requests."""
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
