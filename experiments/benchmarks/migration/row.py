"""One migration, measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MigrationRow:
    """`context_tokens` are prompt and output when the destination took over.

    `inter_token_s` is the median at the source before the move, `source_slowdown` the mean during
    it over that, None where it was over within four tokens. `bytes_moved` are deltas
    between the hosts, without the 48 bytes of every frame.
    """

    model: str
    dtype: str
    strategy: str
    asked_context_tokens: int
    context_tokens: int
    round: int
    catch_up_s: float
    pause_s: float
    inter_token_s: float
    bytes_moved: int
    recomputed_tokens: int
    source_slowdown: float | None
    predicted_s: float  # by the cluster's predictor, before it learnt from this one
    predicted_linear_s: float  # by the paper's, likewise
    chosen: str  # by the cost model, before it learnt from this one

    @property
    def pause_tokens(self) -> float:
        """The pause, in tokens that the source would have generated."""
        return self.pause_s / self.inter_token_s
