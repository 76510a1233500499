"""Calibration: the reading of a benchmark's files, and a benchmark inside this process."""

from pathlib import Path

import pytest
import yaml

from experiments.composing import composed_run
from experiments.config.reading import read_config
from experiments.config.real import Calibration, Measured, RealSettings
from experiments.real.bench import RealBench, bench_models, bench_requests
from experiments.real.bench_reading import read_bench
from experiments.real.calibrate import calibrated, preset_text
from experiments.real.possible import real_settings
from experiments.simulation.calibrated import calibrated_timing, emulated_pace
from experiments.simulation.parquet_file import write_table
from experiments.simulation.run_folder import INSTANCES, REQUESTS
from experiments.simulation.setup import sim_setup
from sllmcore.metrics.tables import INSTANCE_COLUMNS, REQUEST_COLUMNS, Table
from sllmreal.control.deployment import ModelDeployment
from sllmsim.timing import step_s
from sllmsim.timing.linear import LinearTiming
from tests.experiments.real_runs import SMALL_REAL

PACE = {"prefill_token_s": 0.001, "decode_step_s": 0.02, "decode_sequence_s": 0.005}
# The overhead of the cluster in the literal tables below.
TRUE = Calibration(
    boot=Measured(0.5, 0.7),
    ready=Measured(0.1, 0.125),
    first_token_s=0.03,
    token_s=0.004,
    sequence_s=0.001,
    prompt_token_s=0.0002,
    load_share=0.75,
)
DECLARED = {"SSD": 4e9}
LARGE_BYTES = 9_000_000_000  # three seconds at three quarters of the declared rate


def _model(name: str) -> ModelDeployment:
    return ModelDeployment(
        name=name,
        source="/nowhere",
        size_bytes=1,
        context_tokens=4096,
        created_at_s=0.0,
        engine="timed",
        num_gpus=1,
        num_slots=3,
        settings=PACE,
    )


def _write(path: Path, columns: dict[str, str], rows: list[dict[str, float | int | str]]) -> None:
    table = Table(columns)
    empty: dict[str, float | int | str] = {"s": "", "f": 0.0, "i": 0}
    for row in rows:
        table.append(tuple(row.get(name, empty[kind]) for name, kind in columns.items()))
    write_table(table, path, range(len(rows)))


def _answer(
    kind: str, prompt: int, tokens: int, sequences: int = 1
) -> dict[str, float | int | str]:
    first_s = TRUE.first_token_s + prompt * (PACE["prefill_token_s"] + TRUE.prompt_token_s)
    step = PACE["decode_step_s"] + sequences * PACE["decode_sequence_s"] + TRUE.token_s
    step += (sequences - 1) * TRUE.sequence_s
    return {
        "request_id": f"{kind}-0",
        "output_tokens": tokens,
        "started_at_s": 10.0,
        "first_token_at_s": 10.0 + first_s,
        "ended_at_s": 10.0 + first_s + (tokens - 1) * step,
    }


def test_a_benchmark_finds_the_overhead_of_its_cluster(tmp_path: Path) -> None:
    starts = [("small", 0.0, 0.6), ("small", 0.0, 0.6), ("small", 0.0, 0.8)]
    starts += [("large", 3.0, 0.1), ("large", 3.0, 0.1), ("large", 3.0, 0.125)]
    instances: list[dict[str, float | int | str]] = [
        {
            "model": model,
            "launched_at_s": 5.0,
            "ready_at_s": 5.0 + all_s,
            "transfer_s": transfer_s,
            "source": "SSD",
            "num_bytes": LARGE_BYTES,
        }
        for model, transfer_s, rest_s in starts
        for all_s in (transfer_s + rest_s,)
    ]
    answers = [_answer("short", 8, 1), _answer("long", 200, 1)]
    answers += [_answer("answer", 8, 100), _answer("full", 8, 100, sequences=3)]
    _write(tmp_path / INSTANCES, dict(INSTANCE_COLUMNS), instances)
    _write(tmp_path / REQUESTS, dict(REQUEST_COLUMNS), answers)

    read = read_bench(tmp_path, _model("small"), _model("large"), DECLARED)

    assert read.boot.median_s == pytest.approx(0.5)
    assert read.boot.p99_s == pytest.approx(0.7)
    assert read.ready.median_s == pytest.approx(0.1)
    assert read.ready.p99_s == pytest.approx(0.125)
    for name in ("first_token_s", "token_s", "sequence_s", "prompt_token_s", "load_share"):
        assert getattr(read, name) == pytest.approx(getattr(TRUE, name)), name


def test_the_simulator_adds_the_calibration_to_the_emulated_pace() -> None:
    truth = LinearTiming(
        fixed_s=0.02, per_request_s=0.005, prefill_per_token_s=0.001, prefill_fixed_s=0.0
    )
    pace = emulated_pace(truth)

    timing = calibrated_timing(truth, RealSettings(calibration=TRUE))
    computing = calibrated_timing(truth, RealSettings("transformers", calibration=TRUE))

    assert pace.decode_step_s + pace.decode_sequence_s == pytest.approx(0.025)
    assert step_s(timing, 1, 250) == pytest.approx(0.025 + 0.004)
    assert step_s(timing, 3, 750) == pytest.approx(0.020 + 3 * 0.005 + 0.004 + 2 * 0.001)
    assert timing.prefill_s(100) == pytest.approx(0.03 + 100 * 0.0012)
    assert step_s(computing, 1, 250) == pytest.approx(0.004)


def test_a_benchmark_runs_on_a_cluster_in_this_process() -> None:
    """Check ranges only, since the values depend on the machine."""
    config = composed_run(SMALL_REAL)
    bench = RealBench(cold_starts=1, answers=1, gap_s=0.5)

    calibration = calibrated(config, real_settings(config), bench, long_transfer_s=0.2)

    assert 0 <= calibration.boot.median_s == calibration.boot.p99_s
    assert 0 <= calibration.ready.median_s == calibration.ready.p99_s
    assert calibration.first_token_s >= 0
    assert calibration.load_share > 0
    assert calibration.checkpoint_bytes is None


def test_a_preset_is_read_back_as_a_driver_config(tmp_path: Path) -> None:
    machine = {"num_cpus": 2, "cpu": "some", "python": "3", "git": None, "command": ["calibrate"]}
    text = preset_text(RealSettings(), TRUE, machine)

    plain = yaml.safe_load(text)
    assert plain["kind"] == "real"
    assert read_config(RealSettings, plain["real"]) == RealSettings(calibration=TRUE)
    assert text.startswith("# Measured ")


def test_a_simulated_cold_start_takes_the_calibrated_time() -> None:
    boot, ready = "driver.real.calibration.boot", "driver.real.calibration.ready"
    config = composed_run(
        [
            *SMALL_REAL,
            *(f"{boot}.median_s=0.5", f"{boot}.p99_s=0.5"),
            *(f"{ready}.median_s=0.25", f"{ready}.p99_s=0.25"),
        ]
    )

    cold_start = sim_setup(config).phases.median()

    assert cold_start.startup_s(transfer_s=0.125) == pytest.approx(0.5 + 0.25)
    assert cold_start.startup_s(transfer_s=2.0) == pytest.approx(2.0 + 0.25)


def test_a_benchmark_sends_requests_to_the_model_that_it_has_loaded(tmp_path: Path) -> None:
    config = composed_run(SMALL_REAL)
    models = bench_models(config, real_settings(config), tmp_path, 3.0)
    jobs = list(bench_requests(RealBench(cold_starts=2, answers=1), models))

    small, large = (model.name for model in models)
    assert models[0].size_bytes == 1
    assert models[1].size_bytes == 18_000_000_000
    assert [job.request.model for job in jobs] == [small, large, small, large, *3 * [large]]
    assert [job.request.id.partition("-")[0] for job in jobs[4:]] == ["short", "long", "answer"]
