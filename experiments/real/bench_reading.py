"""A cluster's calibration from the files of a bench; `calibrate` has the formulas."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq

from experiments.config.real import Calibration, Measured
from experiments.real.bench import LONG_TOKENS, SHORT_TOKENS
from experiments.simulation.run_folder import INSTANCES, REQUESTS
from sllmcore.typed_settings import settings_of
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.registry import ENGINES

Row = dict[str, Any]


def read_bench(
    folder: Path, small: ModelDeployment, large: ModelDeployment, bytes_per_s: Mapping[str, float]
) -> Calibration:
    """Read the calibration from the tables of a bench.

    Args:
        folder: Folder with requests.parquet and instances.parquet.
        small: The bench's first model.
        large: The second model of the benchmark.
        bytes_per_s: Declared bandwidth by the name of a load's source tier.
    """
    requests: list[Row] = pq.read_table(folder / REQUESTS).to_pylist()
    instances: list[Row] = pq.read_table(folder / INSTANCES).to_pylist()
    weightless = not ENGINES[small.engine].needs_weights
    ready = _measured(_rests_s(instances, large)) if weightless else Measured(0.0, 0.0)
    boots_s = [max(0.0, rest_s - ready.median_s) for rest_s in _rests_s(instances, small)]
    prefill_token_s, step_s, sequence_s = _paces_s(small)
    short_s, long_s = _first_token_s(requests, "short"), _first_token_s(requests, "long")
    tokens = LONG_TOKENS - SHORT_TOKENS
    prompt_token_s = max(0.0, (long_s - short_s) / tokens - prefill_token_s)
    first_token_s = short_s - SHORT_TOKENS * (prefill_token_s + prompt_token_s)
    alone_s = _token_s(requests, "answer")
    others = small.num_slots - 1
    full_s = _token_s(requests, "full") if others else alone_s
    return Calibration(
        boot=_measured(boots_s),
        ready=ready,
        first_token_s=max(0.0, first_token_s),
        token_s=max(0.0, alone_s - step_s - sequence_s),
        sequence_s=max(0.0, (full_s - alone_s) / others - sequence_s) if others else 0.0,
        prompt_token_s=prompt_token_s,
        load_share=_load_share(instances, large, bytes_per_s),
        checkpoint_bytes=None if weightless else small.size_bytes,
    )


def _rests_s(instances: Sequence[Row], model: ModelDeployment) -> list[float]:
    """Return the seconds of each cold start of a model without its transfer."""
    return [
        row["ready_at_s"] - row["launched_at_s"] - row["transfer_s"]
        for row in instances
        if row["model"] == model.name
    ]


def _load_share(
    instances: Sequence[Row], model: ModelDeployment, bytes_per_s: Mapping[str, float]
) -> float:
    reached = (
        row["num_bytes"] / row["transfer_s"] / bytes_per_s[row["source"]]
        for row in instances
        if row["model"] == model.name
    )
    return min(1.0, float(median(reached)))


def _measured(values_s: Sequence[float]) -> Measured:
    return Measured(median(values_s), max(values_s))


def _paces_s(model: ModelDeployment) -> tuple[float, ...]:
    """Return the pace of a paced engine; zeros for an engine that computes."""
    names = ("prefill_token_s", "decode_step_s", "decode_sequence_s")
    kind = ENGINES[model.engine]
    if not kind.paced:
        return (0.0,) * len(names)
    settings = settings_of(kind.settings, model.settings, f"engine {model.engine}")
    return tuple(float(getattr(settings, name)) for name in names)


def _first_token_s(requests: Sequence[Row], kind: str) -> float:
    return float(
        median(row["first_token_at_s"] - row["started_at_s"] for row in _of(requests, kind))
    )


def _token_s(requests: Sequence[Row], kind: str) -> float:
    return float(
        median(
            (row["ended_at_s"] - row["first_token_at_s"]) / (row["output_tokens"] - 1)
            for row in _of(requests, kind)
        )
    )


def _of(requests: Sequence[Row], kind: str) -> list[Row]:
    return [row for row in requests if row["request_id"].startswith(f"{kind}-")]
