"""`experiments.run` and `experiments.compare` on traces: what is printed, stored and refused."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from experiments import compare, run
from experiments.simulation.run_folder import REQUESTS, TRACE
from tests.experiments.commands import called

BASE = ("cluster=small", "models=opt_few", "workload=trace", "workload.max_requests=20")
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST = "Timestamp,Model,Request tokens,Response tokens\n"
THREE = '{{"timestamp": {}, "input_length": 20, "output_length": 3}}\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.txt"
    path.write_text(text)
    return path


def arrivals(folder: Path) -> list[float]:
    return list(pq.read_table(folder / REQUESTS)["arrived_at_s"].to_numpy())


def test_the_reading_of_a_trace_is_printed_and_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "".join(map(THREE.format, (0.0, 0.5, 3.25))))
    folder = tmp_path / "run"

    assert called(run.main, *BASE, f"workload.path={path}", f"out={folder}") == 0

    printed = capsys.readouterr()
    stored = json.loads((folder / TRACE).read_text())
    assert printed.out == f"{folder}\n"
    assert "workload.time_unit=s" in printed.err
    assert "models: rows name no model; drawn by popularity, of 7" in printed.err
    assert (stored["format"], stored["time_unit"]) == ("mooncake", "ms")
    assert stored["mapping"] in printed.err
    assert stored["files"] == [str(path)]
    assert len(stored["notes"]) == 1


def test_a_time_unit_is_a_key_of_the_workload(tmp_path: Path) -> None:
    path = written(tmp_path, "".join(map(THREE.format, (4.0, 4.5, 7.25))))
    folder = tmp_path / "run"
    words = (*BASE, f"workload.path={path}", "workload.time_unit=s", f"out={folder}")

    assert called(run.main, *words) == 0

    assert arrivals(folder) == [0.0, 0.5, 3.25]


def test_rows_before_the_first_one_run_and_compare(tmp_path: Path) -> None:
    times = ("05.5319600", "04.0319600", "03.9819600")
    path = written(tmp_path, AZURE + "".join(f"2023-11-16 18:17:{at},9,2\n" for at in times))
    words = (*BASE, f"workload.path={path}", "workload=azure_llm")

    assert called(run.main, *words, f"out={tmp_path / 'run'}") == 0
    assert arrivals(tmp_path / "run") == pytest.approx([0.0, 0.05, 1.55])
    many = ("policies=[serverless,locality]", "workers=1", f"out={tmp_path / 'all'}")
    assert called(compare.main, *words, *many) == 0


def test_names_of_models_are_mapped_printed_and_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "0,9,2,opt_13b\n1000,9,2,opt-6.7b\n2000,9,2,opt-6.7b-1\n"
    path = written(tmp_path, "timestamp,input_length,output_length,model\n" + rows)
    folder = tmp_path / "run"
    deployed = "{opt-6.7b: {model: opt-6.7b, replicas: 2}, opt_13b: {model: opt-13b, replicas: 1}}"
    words = (*BASE, f"workload.path={path}", f"+models.deployments={deployed}", f"out={folder}")

    assert called(run.main, *words) == 0

    models = pq.read_table(folder / REQUESTS)["model"].to_pylist()
    assert models == ["opt_13b-0", "opt-6.7b-0", "opt-6.7b-1"]
    assert "  opt-6.7b -> opt-6.7b-0, opt-6.7b-1" in capsys.readouterr().err
    assert json.loads((folder / TRACE).read_text())["models"]["opt_13b"] == ["opt_13b-0"]


EMPTY = {
    "header only": (AZURE, (), "the trace has no rows"),
    "all failed": (BURST + "1,ChatGPT,9,0\n", (), "all 1 rows are failures"),
    "empty window": (BURST + "1,a,9,1\n", ("workload.start_s=90",), "no row is at start_s=90 s"),
    "unknown name": (
        "timestamp,input_length,output_length,model\n0,9,2,gpt-4\n",
        (),
        "'gpt-4', which is not deployed; deployed are opt",
    ),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_trace_with_nothing_to_do_ends_with_code_2_and_no_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, more, complaint = EMPTY[name]
    path = written(tmp_path, text)
    words = (*BASE, *more, f"workload.path={path}", f"out={tmp_path / 'a' / 'b'}")

    assert called(run.main, *words) == 2
    alone = capsys.readouterr()
    assert called(compare.main, *words, "policies=[serverless]") == 2
    compared = capsys.readouterr()

    for captured in (alone, compared):
        assert complaint in captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_reads_a_trace_from_a_pipe(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments.run", *BASE, "workload.path=-", "out=run"]
    text = "".join(map(THREE.format, (0, 1000, 2000)))

    subprocess.run(command, input=text.encode(), check=True, cwd=tmp_path, capture_output=True)

    assert arrivals(tmp_path / "run") == [0.0, 1.0, 2.0]


def test_a_comparison_refuses_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (*BASE, "workload.path=-", f"out={tmp_path / 'out'}")

    assert called(compare.main, *words) == 2

    assert "write it to a file first" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
