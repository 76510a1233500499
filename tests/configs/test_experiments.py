"""Every experiment of configs/experiment runs, shortened, with every policy."""

import gzip
from pathlib import Path

import pytest

from experiments.composing import CONFIGS, composed_run
from experiments.config.run_config import RunConfig
from experiments.simulation.execute import run_into

EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
POLICIES = sorted(path.stem for path in (CONFIGS / "policy").glob("*.yaml"))
TRACES = Path(__file__).parents[2].parent / "shared" / "traces"
LLM_ROWS = {"code": 8819, "conv": 19366}
FUNCTIONS_ROWS = 9266  # the sum of its minutes

SMALL_TRACES = {
    "azure_llm": "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    + "".join(f"2023-11-16 18:17:{second:02},{100 + second},{second}\n" for second in range(30)),
    "azure_functions": "HashOwner,HashApp,HashFunction,Trigger,1,2,3\n"
    + "".join(f"o,a,f{index},http,1,0,{index}\n" for index in range(8)),
}


def _shortened(experiment: str, policy: str, folder: Path) -> RunConfig:
    overrides = [f"experiment={experiment}", f"policy={policy}", "workload.max_requests=20"]
    if experiment in SMALL_TRACES:
        trace = folder / "trace.csv"
        trace.write_text(SMALL_TRACES[experiment])
        overrides.append(f"workload.path={trace}")
    return composed_run(overrides)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_each_experiment_runs_under_each_policy(
    experiment: str, policy: str, tmp_path: Path
) -> None:
    config = _shortened(experiment, policy, tmp_path)

    summary = run_into(tmp_path / "run", config)

    assert summary["requests"] == 20
    assert summary["policy"] == config.policy.name


def _unlimited(experiment: str, path: Path, policy: str) -> RunConfig:
    overrides = [f"experiment={experiment}", f"policy={policy}", f"workload.path={path}"]
    return composed_run([*overrides, "driver.journal=false"])


def _excerpt(path: Path, rows: int, folder: Path) -> Path:
    """Write the first rows of a trace to a file and return its path."""
    with gzip.open(path, "rt") as file:
        lines = [next(file) for _ in range(rows + 1)]
    excerpt = folder / "excerpt.csv"
    excerpt.write_text("".join(lines))
    return excerpt


@pytest.mark.skipif(not TRACES.is_dir(), reason="the public traces are not beside the repository")
@pytest.mark.parametrize("policy", POLICIES)
def test_every_row_of_a_real_trace_is_accounted_for(policy: str, tmp_path: Path) -> None:
    traces = TRACES / "azure_llm_2023"
    rows = {"code": 300, "conv": 300}
    if policy == "serverlessllm":
        rows["code"] = LLM_ROWS["code"]
    for service, num_rows in rows.items():
        path = traces / f"AzureLLMInferenceTrace_{service}.csv.gz"
        if num_rows != LLM_ROWS[service]:
            path = _excerpt(path, num_rows, tmp_path)
        config = _unlimited("azure_llm", path, policy)
        summary = run_into(tmp_path / service, config)
        assert summary["requests"] == summary["workload"]["rows_read"] == num_rows


@pytest.mark.slow
@pytest.mark.skipif(not TRACES.is_dir(), reason="the public traces are not beside the repository")
@pytest.mark.parametrize("policy", POLICIES)
def test_every_row_of_the_whole_traces_is_accounted_for(policy: str, tmp_path: Path) -> None:
    for service, num_rows in LLM_ROWS.items():
        path = TRACES / "azure_llm_2023" / f"AzureLLMInferenceTrace_{service}.csv.gz"
        summary = run_into(tmp_path / service, _unlimited("azure_llm", path, policy))
        assert summary["requests"] == num_rows
    (path,) = (TRACES / "azure_functions_2019").glob("*128functions.csv.gz")
    summary = run_into(tmp_path / "functions", _unlimited("azure_functions", path, policy))
    assert summary["requests"] == FUNCTIONS_ROWS


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_begins_with_its_command(experiment: str) -> None:
    # Hydra needs its directive in the first line, so the command is in the second.
    package, command, *_ = (CONFIGS / "experiment" / f"{experiment}.yaml").read_text().splitlines()

    assert package == "# @package _global_"
    assert command.startswith(("# python -m experiments.run ", "# python -m experiments.compare "))
    assert f" experiment={experiment}" in command
