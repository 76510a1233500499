"""Loading time: `q + n / b`.

`q` is the wait for the loads queued on the same I/O path of the server, `n` the number of bytes to
transfer, `b` the bandwidth of the slowest stage from the nearest tier. `b` is first the bandwidth
that the server declared, then learnt from finished loads. If a model rests in several tiers, all
stages work at once, each on the bytes that come from its tier or from farther away:
`max over tiers t of (bytes from t or farther) / b_t`.
"""

from sllmcore.errors import UsageError
from sllmcore.protocols import LoadSample, ServerView
from sllmcore.types import DRAM, REMOTE, SSD, Checkpoint, LoadEstimate, ServerSpec, StorageTier


def declared_bytes_per_s(spec: ServerSpec, source: StorageTier, num_gpus: int) -> float:
    """Return the declared bandwidth of the slowest stage from `source` to `num_gpus` GPUs.

    Each GPU has a link of its own.
    """
    to_gpus_bytes_per_s = num_gpus * spec.dram_bytes_per_s
    if source is DRAM:
        return to_gpus_bytes_per_s
    if source is SSD:
        return min(spec.ssd_bytes_per_s, to_gpus_bytes_per_s)
    return min(spec.remote_bytes_per_s, to_gpus_bytes_per_s)


class BandwidthEstimator:
    """The loading-time estimator of ServerlessLLM (OSDI'24, section 6).

    Bandwidths are learnt per server, tier and number of GPUs.

    Args:
        smoothing: Weight of the newest load in the running means, in (0, 1].
        startup_s: Initial estimate of the phases of a cold start that move no bytes.
    """

    def __init__(self, smoothing: float = 0.2, startup_s: float = 0.0) -> None:
        if not 0 < smoothing <= 1:
            raise UsageError(f"smoothing must be in (0, 1], got {smoothing}")
        if startup_s < 0:
            raise UsageError(f"startup_s must not be negative, got {startup_s}")
        self._smoothing = smoothing
        self._declared_startup_s = startup_s
        self._bytes_per_s: dict[tuple[str, StorageTier, int], float] = {}
        self._startup_s: dict[str, float] = {}  # by model

    def estimate(self, checkpoint: Checkpoint, server: ServerView, now_s: float) -> LoadEstimate:
        """Return the expected time until an instance launched at `now_s` can serve."""
        model, size_bytes = checkpoint.model, checkpoint.size_bytes
        startup_s = self._startup_s.get(model, self._declared_startup_s)
        in_dram = server.resident_bytes(DRAM, model)
        if in_dram >= size_bytes:
            source = DRAM
            transfer_s = size_bytes / self._rate(server, DRAM, checkpoint.num_gpus)
        else:
            source, transfer_s = self._from_below_dram(checkpoint, server, in_dram)
        return LoadEstimate(source, server.queue_wait_s(source, now_s), transfer_s, startup_s)

    def _from_below_dram(
        self, checkpoint: Checkpoint, server: ServerView, in_dram: int
    ) -> tuple[StorageTier, float]:
        num_gpus = checkpoint.num_gpus
        missing_bytes = checkpoint.size_bytes - in_dram
        in_ssd = min(server.resident_bytes(SSD, checkpoint.model), missing_bytes)
        source = SSD if in_ssd == missing_bytes else REMOTE
        transfer_s = missing_bytes / self._rate(server, source, num_gpus)
        if source is REMOTE and in_ssd:
            transfer_s = max(
                (missing_bytes - in_ssd) / self._rate(server, REMOTE, num_gpus),
                missing_bytes / self._rate(server, SSD, num_gpus),
            )
        if in_dram:
            whole_s = checkpoint.size_bytes / self._rate(server, DRAM, num_gpus)
            transfer_s = max(transfer_s, whole_s)
        return source, transfer_s

    def _rate(self, server: ServerView, source: StorageTier, num_gpus: int) -> float:
        learnt = self._bytes_per_s.get((server.id, source, num_gpus))
        return declared_bytes_per_s(server.spec, source, num_gpus) if learnt is None else learnt

    def observe(
        self, checkpoint: Checkpoint, server: ServerView, source: StorageTier, load: LoadSample
    ) -> None:
        """Learn from a finished load.

        A load teaches the bandwidth of its tier only if all bytes came from that tier.
        """
        model = checkpoint.model
        known_s = self._startup_s.get(model, load.startup_s)
        self._startup_s[model] = known_s + self._smoothing * (load.startup_s - known_s)
        if load.num_bytes != checkpoint.size_bytes or load.transfer_s <= 0:
            return
        key = (server.id, source, checkpoint.num_gpus)
        newest = load.num_bytes / load.transfer_s
        known = self._bytes_per_s.get(key, newest)
        self._bytes_per_s[key] = known + self._smoothing * (newest - known)
