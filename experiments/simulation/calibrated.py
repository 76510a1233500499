"""How fast a real cluster's engines are: what they emulate, and what was measured on top of it.

A timed engine sleeps along a straight line, prefill_token_s n for a prompt of n tokens and
decode_step_s + decode_sequence_s B for an iteration over B sequences, whatever their contexts. It
is the roofline at `TYPICAL_TOKENS`, exact there and at batch 1. An engine that computes has no such
line: all its time is measured.
"""

from dataclasses import dataclass

from experiments.config.real import RealSettings
from sllmsim.timing import InferenceTiming
from sllmsim.timing.linear import LinearTiming

TYPICAL_TOKENS = 250  # of prompt, and of context while decoding: GSM8K's mean prompt and answer
_SHORTEST_STEP_S = 1e-6  # an iteration takes time, even where none has been measured yet


@dataclass(frozen=True, slots=True)
class EmulatedPace:
    """What a timed engine is told to sleep."""

    prefill_token_s: float = 0.0
    decode_step_s: float = 0.0
    decode_sequence_s: float = 0.0


def emulated_pace(timing: InferenceTiming) -> EmulatedPace:
    """The straight line for a model's timing."""
    return EmulatedPace(
        timing.prefill_s(TYPICAL_TOKENS) / TYPICAL_TOKENS,
        timing.fixed_s,
        timing.per_request_s + timing.per_context_token_s * TYPICAL_TOKENS,
    )


def calibrated_timing(timing: InferenceTiming, real: RealSettings) -> LinearTiming:
    """Of an engine of a real cluster whose config's model and GPU have `timing`."""
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
