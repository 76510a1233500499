import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.traces.conftest import WriteTrace
from traces.cli import main, parsed_spec
from traces.errors import TraceError
from traces.popularity import Popularity
from traces.spec import WorkloadSpec

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
TRACE = HEADER + "".join(
    f"2023-11-16 18:{i // 60:02d}:{i % 60:02d}.{i % 7}000000,{100 + i % 50},{1 + i % 9}\n"
    for i in range(600)
)


def test_describe_prints_a_table(
    write_trace: WriteTrace, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["describe", str(write_trace(TRACE))])

    shown = capsys.readouterr()
    assert code == 0
    assert "index of dispersion, 60 s" in shown.out
    assert shown.err == ""


def test_describe_gives_its_numbers_as_json(
    write_trace: WriteTrace, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["describe", str(write_trace(TRACE)), "--json"])

    numbers = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (numbers["num_rows"], numbers["num_sources"]) == (600, 0)
    assert numbers["input_tokens"]["quantiles"][0] == {"probability": 0.5, "value": 124.5}


def test_describe_draws_the_same_png_and_pdf_each_time(
    write_trace: WriteTrace, tmp_path: Path
) -> None:
    path = write_trace("HashFunction,1,2\nf,9,30\ng,2,5\n", "azure.csv.gz")

    for folder in ("one", "two"):
        assert main(["describe", str(path), "--out", str(tmp_path / folder)]) == 0

    assert sorted(each.name for each in (tmp_path / "one").iterdir()) == ["azure.pdf", "azure.png"]
    for name, magic in (("azure.png", b"\x89PNG"), ("azure.pdf", b"%PDF")):
        drawn = (tmp_path / "one" / name).read_bytes()
        assert drawn.startswith(magic)
        assert drawn == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (HEADER + "2023-11-16 18:00:00,x,1\n", "trace.csv:2, column 'ContextTokens'"),
        (HEADER, "no rows"),
        ("", "the file is empty"),
    ],
)
def test_a_bad_file_ends_with_code_2_and_no_picture(
    write_trace: WriteTrace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    problem: str,
) -> None:
    out = tmp_path / "pictures"

    code = main(["describe", str(write_trace(text)), "--out", str(out)])

    shown = capsys.readouterr()
    assert (code, shown.out) == (2, "")
    assert problem in shown.err
    assert not out.exists()


def test_export_writes_mooncake_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "jobs.jsonl"
    fields = ["kind=poisson", "target_rps=5", "max_requests=20", "popularity.kind=uniform"]

    code = main(["export", str(out), "--set", *fields, "--models", "opt,llama", "--seed", "3"])

    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert code == 0
    assert "wrote 20 requests" in capsys.readouterr().err
    assert len(records) == 20
    assert set(records[0]) == {"timestamp", "input_length", "output_length", "model"}
    assert {record["model"] for record in records} == {"opt", "llama"}


def test_an_export_that_fails_ends_with_code_2_and_leaves_the_old_file(
    write_trace: WriteTrace, tmp_path: Path
) -> None:
    out = tmp_path / "jobs.jsonl"
    out.write_text("old")
    bad = write_trace(TRACE + "2023-11-16 18:59:00,-1,1\n")

    code = main(["export", str(out), "--set", "kind=azure_llm", f"path={bad}"])

    assert code == 2
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jobs.jsonl", "trace.csv"]


@pytest.mark.parametrize(
    "fields",
    [
        ["kind=nope"],
        ["kind"],
        ["kind=poisson"],
        ["kind=poisson", "target_rps=fast", "max_requests=1"],
        ["kind=poisson", "target_rps=1", "max_requests=1", "popularity.kind=zipf"],
        ["kind=azure_llm", "path=none.csv"],
    ],
)
def test_a_bad_spec_ends_with_code_2(tmp_path: Path, fields: list[str]) -> None:
    assert main(["export", str(tmp_path / "x.jsonl"), "--set", *fields]) == 2
    assert list(tmp_path.iterdir()) == []


def test_exporting_into_a_missing_folder_ends_with_code_2(tmp_path: Path) -> None:
    fields = ["kind=poisson", "target_rps=1", "max_requests=1"]

    assert main(["export", str(tmp_path / "none" / "x.jsonl"), "--set", *fields]) == 2


def test_fields_can_be_nested_and_listed() -> None:
    fields = ["kind=gamma", "target_rps=1", "duration_s=9", "cv=1,4", "popularity.sigma=1.5"]

    spec = parsed_spec(fields)

    assert spec == WorkloadSpec(
        kind="gamma",
        target_rps=1.0,
        duration_s=9.0,
        cv=(1.0, 4.0),
        popularity=Popularity(sigma=1.5),
    )


def test_a_field_that_is_misspelt_is_an_error() -> None:
    with pytest.raises(TraceError, match="target_rsp"):
        parsed_spec(["kind=gamma", "target_rps=1", "duration_s=9", "target_rsp=1"])


def test_fetch_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["fetch", "--list", "--json"])

    listed = json.loads(capsys.readouterr().out)
    assert code == 0
    assert "azure-functions-2019" in [file["name"] for file in listed]


@pytest.mark.parametrize("arguments", [["fetch"], ["fetch", "nope"], ["validate", "--seeds", "0"]])
def test_wrong_usage_ends_with_code_2(arguments: list[str]) -> None:
    assert main(arguments) == 2


def test_the_module_runs_and_its_help_has_examples() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "traces", "--help"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "examples:" in run.stdout
    assert "requests per second" in run.stdout
