"""The row of results of one measured migration."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MigrationRow:
    """A measured migration.

    Attributes:
        asked_context_tokens: Context at which the migration was to begin.
        context_tokens: Prompt and output when the destination took over.
        catch_up_s: From the start of the migration until the destination took over.
        pause_s: Time without tokens for the client.
        inter_token_s: Median time between tokens at the source before the migration.
        bytes_moved: Bytes of deltas between the hosts, without the 48 bytes of each frame.
        recomputed_tokens: Context tokens that the destination computed itself.
        source_slowdown: Mean time between tokens during the migration over `inter_token_s`; None
            if the source generated fewer than five tokens meanwhile.
        predicted_s: By the cluster's quadratic predictor, before it learnt from this migration.
        predicted_linear_s: By the paper's linear predictor, likewise.
        chosen: Strategy that the cost model would have chosen, likewise.
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
    predicted_s: float
    predicted_linear_s: float
    chosen: str

    @property
    def pause_tokens(self) -> float:
        """The pause in units of `inter_token_s`."""
        return self.pause_s / self.inter_token_s
