"""The times of a cold start, as both drivers report them in `LoadFinished`.

    issued ... prepared ... turn ............. moved ............. ready
      before      waits       transfer_s         rest of the start

    startup_s = (ready - issued) - transfer_s - (turn - prepared)

A cold start is prepared when everything that must precede the transfer is done; then it waits for
its turn on the I/O path. `startup_s` is thus the time that neither the transfer nor the wait took.
"""


def startup_s(
    *,
    issued_at_s: float,
    prepared_at_s: float,
    turn_at_s: float,
    moved_at_s: float,
    ready_at_s: float,
) -> float:
    """Return the seconds of a cold start besides its transfer and the wait for it; at least 0."""
    transfer_s = moved_at_s - turn_at_s
    waited_s = turn_at_s - prepared_at_s
    return max(0.0, (ready_at_s - issued_at_s) - transfer_s - waited_s)
