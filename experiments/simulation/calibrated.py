"""The speed of a real cluster's engines: their emulated pace plus the measured overhead.

A timed engine sleeps prefill_token_s n for a prompt of n tokens, and decode_step_s +
decode_sequence_s B for an iteration over B sequences, whatever their contexts. This linear pace
equals the roofline at `TYPICAL_TOKENS` and batch 1. An engine that computes has no emulated pace:
all its time is measured.
"""

from dataclasses import dataclass

from experiments.config.real import RealSettings
from sllmsim.timing import InferenceTiming
from sllmsim.timing.linear import LinearTiming

TYPICAL_TOKENS = 250  # of a prompt and of a context: GSM8K's mean prompt and answer
_SHORTEST_STEP_S = 1e-6  # an iteration must take time, even before any measurement


@dataclass(frozen=True, slots=True)
class EmulatedPace:
    """The pace of a timed engine: seconds of sleep per token, iteration and sequence."""

    prefill_token_s: float = 0.0
    decode_step_s: float = 0.0
    decode_sequence_s: float = 0.0


def emulated_pace(timing: InferenceTiming) -> EmulatedPace:
    """Return the linear pace for a model's timing."""
    return EmulatedPace(
        timing.prefill_s(TYPICAL_TOKENS) / TYPICAL_TOKENS,
        timing.fixed_s,
        timing.per_request_s + timing.per_context_token_s * TYPICAL_TOKENS,
    )


def calibrated_timing(timing: InferenceTiming, real: RealSettings) -> LinearTiming:
    """Return the timing of a real cluster's engine.

    Args:
        timing: Timing of the config's model and GPU.
    """
    pace = emulated_pace(timing) if real.engine_kind.paced else EmulatedPace()
    measured = real.calibration
    sequence_s = pace.decode_sequence_s + measured.sequence_s
    step_s = pace.decode_step_s + pace.decode_sequence_s + measured.token_s
    return LinearTiming(
        fixed_s=max(_SHORTEST_STEP_S, step_s - sequence_s),
        per_request_s=sequence_s,
        prefill_fixed_s=measured.first_token_s,
        prefill_per_token_s=pace.prefill_token_s + measured.prompt_token_s,
    )
