"""Token counts of a ServeGen client: one histogram per 6 hours, `chunk-N-dataset.json`.

    {"0": {"input_tokens": "{163: 0.26, 165: 0.74}", "output_tokens": "{1: 1.0}"}, "21600": ...}

The keys are window starts in seconds; the histograms are written as text. The multimodal files
have `text_tokens` instead of `input_tokens`. An empty histogram means no request in those hours:
the latest one before it that is not empty is used, or else the first after it.
"""

import ast
import bisect
import json
import math
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from traces.errors import TraceError
from traces.windows import LengthDraw


class _Histograms:
    """Inverse CDFs by window start."""

    def __init__(self) -> None:
        self.starts_s: list[float] = []
        self.values: list[NDArray[np.int64]] = []
        self.cumulative: list[NDArray[np.float64]] = []

    def add(self, start_s: float, weights: dict[int, float]) -> None:
        if not weights:
            return
        values = sorted(weights)
        mass = np.array([weights[value] for value in values])
        self.starts_s.append(start_s)
        self.values.append(np.array(values, np.int64))
        self.cumulative.append(np.cumsum(mass) / math.fsum(mass.tolist()))

    def draw(self, rng: Generator, at_s: float, num: int) -> NDArray[np.int64]:
        window = max(0, bisect.bisect_right(self.starts_s, at_s) - 1)
        values = self.values[window]
        places = np.searchsorted(self.cumulative[window], rng.random(num), side="right")
        return values[np.minimum(places, len(values) - 1)]


def client_lengths(trace: Path) -> LengthDraw | None:
    """Return the lengths beside `chunk-N-trace.csv`; None if there is no such file or it is
    empty."""
    path = trace.with_name(trace.name.split(".")[0].removesuffix("-trace") + "-dataset.json")
    if not path.exists() or path == trace:
        return None
    inputs, outputs = _read(path)
    if not inputs.starts_s or not outputs.starts_s:
        return None

    def draw(
        rng: Generator, at_s: float, num: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        return inputs.draw(rng, at_s, num), outputs.draw(rng, at_s, num)

    return draw


def _read(path: Path) -> tuple[_Histograms, _Histograms]:
    try:
        windows = json.loads(path.read_text(encoding="utf-8"))
        inputs, outputs = _Histograms(), _Histograms()
        for start, fields in sorted(windows.items(), key=lambda item: float(item[0])):
            field = "input_tokens" if "input_tokens" in fields else "text_tokens"
            inputs.add(float(start), _histogram(path, start, field, fields))
            outputs.add(float(start), _histogram(path, start, "output_tokens", fields))
    except (ValueError, AttributeError, TypeError) as error:
        if isinstance(error, TraceError):
            raise
        raise TraceError(f"not a ServeGen dataset file ({error})", path) from error
    return inputs, outputs


def _histogram(path: Path, start: str, field: str, fields: dict[str, str]) -> dict[int, float]:
    text = fields.get(field, "{}")
    try:
        weights = {int(value): float(mass) for value, mass in ast.literal_eval(text).items()}
    except (ValueError, SyntaxError, AttributeError, TypeError) as error:
        raise TraceError(f"window {start}: not a histogram", path, None, field, text) from error
    if any(value < 0 or not 0 <= mass < math.inf for value, mass in weights.items()):
        raise TraceError(f"window {start}: values and weights must be 0 or more", path, None, field)
    if weights and not math.fsum(weights.values()) > 0:
        raise TraceError(f"window {start}: the weights add up to 0", path, None, field)
    return weights
