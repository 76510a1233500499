"""Results derived from loading.json: profiles for the simulator, and data of the figures."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from experiments.benchmarks.loading.profiles import CONFIGS, file_name, profiles, yaml_text
from experiments.benchmarks.loading.results import RESULTS, MeasuredRate, for_figures, read_measured
from experiments.benchmarks.loading.row import LORA, LoadingRow
from experiments.benchmarks.loading.summary import summary
from paper_figures.loading_figures import figure_6a, figure_6b, figure_7, lora
from paper_figures.results import Results

RESULT_OF_FIGURES = Path(__file__).resolve().parents[2] / "results" / "figures" / "loaders.json"


def row(
    loader: str, cache: str, ratio: float, model: str = "llama-2-7b-l1", number: int = 0
) -> LoadingRow:
    share = {"hot": 1.0, "cold": 0.0}.get(cache)
    return LoadingRow(
        loader=loader,
        model=model,
        size_bytes=10**9,
        cache=cache,
        device="cpu",
        round=number,
        seconds=1.0 / ratio,
        bytes_per_s=1e9 * ratio,
        ratio_to_limit=ratio,
        cached_share=share,
    )


ROWS = [
    row("fio", "cold", 1.0),
    *(row("ours pool", "cold", ratio, number=n) for n, ratio in enumerate((0.9, 0.94, 0.98))),
    row("ours pool", "hot", 1.7),
    row("torch.load", "cold", 0.5),
    row("torch.load", "cold", 0.1, LORA),
    row("torch.load", "hot", 0.3),
    replace(row("torch.load", "hot", 0.01), cached_share=0.4),  # not hot
    row("ours pool", "SATA", 0.99),
    replace(row("ours pool", "cold", 0.1), stolen_share=0.5),  # the host used the CPUs
    row("bare receive", "10 Gbit/s", 0.8),
    row("ours remote", "10 Gbit/s", 0.9),
]


def stored(tmp_path: Path) -> MeasuredRate:
    machine = {"measured_at": "t", "num_cpus": 2, "kernel": "6.18", "torch": "2.13", "command": "c"}
    gains = {"one": {"step 2 bulk": 1.5}, "other": {"step 2 bulk": 2.5}}
    document = {"machine": machine, "gains": gains, "rows": [asdict(one) for one in ROWS]}
    (tmp_path / "loading.json").write_text(json.dumps(document))
    measured = read_measured(tmp_path / "loading.json")
    assert measured is not None
    return measured


def test_profiles_are_medians_of_valid_rows_relative_to_the_limit(tmp_path: Path) -> None:
    found = {one.profile.name: one.profile for one in profiles(stored(tmp_path))}

    assert list(found) == ["measured pytorch", "measured serverlessllm"]
    pytorch, ours = found.values()
    assert (pytorch.ssd_efficiency, pytorch.dram_efficiency, pytorch.pipelined) == (0.5, 0.3, False)
    assert (ours.ssd_efficiency, ours.dram_efficiency, ours.remote_efficiency) == (0.94, 1.0, 0.72)


def test_the_summary_leaves_out_invalid_rows_and_counts_them(tmp_path: Path) -> None:
    text = summary(ROWS)

    (line,) = (one for one in text.splitlines() if "torch.load" in one and " hot " in one)
    assert "0.30" in line
    assert "1 of 2 left out" in line


def test_stored_profiles_agree_with_stored_results() -> None:
    measured = read_measured()
    if measured is None:
        pytest.skip(f"no {RESULTS.name} is stored")
    for one in profiles(measured):
        assert (CONFIGS / file_name(one)).read_text() == yaml_text(one, measured)


def test_figures_mark_measured_values(tmp_path: Path) -> None:
    plain = json.loads(RESULT_OF_FIGURES.read_text())
    plain["measured"] = for_figures(stored(tmp_path))
    results = Results("loaders", plain)

    assert plain["measured"]["gains"] == {"+Bulk": 2.0}
    assert plain["measured"]["lora_seconds"] == {"pytorch": [10.0]}
    for draw in (figure_6a, figure_6b, lora):
        (axes,) = draw(results).axes
        assert "hatched: measured (2 CPUs, disk)" in axes.get_title(loc="right")
        assert any(bar.get_hatch() for bar in axes.patches)
    _, labels = figure_7(results).axes[0].get_legend_handles_labels()
    assert "measured" in labels
