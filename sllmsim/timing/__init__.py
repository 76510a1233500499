"""The true times of inference: of a prefill, of a decode iteration, and of many iterations."""

from sllmsim.timing.fitted import FittedTiming, fitted_timing
from sllmsim.timing.inference import InferenceTiming, iterations_done, iterations_s, step_s
from sllmsim.timing.linear import LinearTiming
from sllmsim.timing.roofline import DEFAULT_EFFICIENCY, EngineEfficiency, roofline

__all__ = [
    "DEFAULT_EFFICIENCY",
    "EngineEfficiency",
    "FittedTiming",
    "InferenceTiming",
    "LinearTiming",
    "fitted_timing",
    "iterations_done",
    "iterations_s",
    "roofline",
    "step_s",
]
