import json
from pathlib import Path

import pytest

from tests.traces.conftest import WriteTrace
from traces.errors import TraceError
from traces.read import read_trace

TABLE = "category,model,client,timestamp_s,rate_rps,cv,pattern,shape,scale\n"


def client_files(folder: Path, windows: str, dataset: object = None) -> Path:
    model = folder / "m-small"
    model.mkdir(exist_ok=True)
    path = model / "chunk-3-trace.csv"
    path.write_text(windows)
    if dataset is not None:
        text = dataset if isinstance(dataset, str) else json.dumps(dataset)
        (model / "chunk-3-dataset.json").write_text(text)
    return path


def test_a_window_has_as_many_requests_as_its_rate_gives(tmp_path: Path) -> None:
    path = client_files(tmp_path, "0,0,0,,0,0\n600,0.01,2.0,Gamma,0.25,400\n1200,0.005,1,,0,0\n")

    rows = list(read_trace([path]))

    assert [int(row.at_s // 600) for row in rows] == [1] * 6 + [2] * 3
    assert {row.source for row in rows} == {"m-small/3"}
    assert {row.input_tokens for row in rows} == {None}


def test_lengths_are_drawn_from_the_histogram_of_their_hours(tmp_path: Path) -> None:
    dataset = {
        "0": {"input_tokens": "{}", "output_tokens": "{}"},
        "21600": {"input_tokens": "{163: 0.5, 165: 0.5}", "output_tokens": "{7: 1.0}"},
        "43200": {"input_tokens": "{900: 1.0}", "output_tokens": "{8: 2.0}"},
    }
    path = client_files(
        tmp_path, "0,0.05,1,Weibull,0.9,20\n21600,0.05,1,,0,0\n43200,0.05,1,,0,0\n", dataset
    )

    rows = list(read_trace([path]))

    assert {row.input_tokens for row in rows[:60]} == {163, 165}
    assert {row.output_tokens for row in rows[:60]} == {7}
    assert {(row.input_tokens, row.output_tokens) for row in rows[60:]} == {(900, 8)}


def test_the_clients_of_a_table_run_at_the_same_time(write_trace: WriteTrace) -> None:
    path = write_trace(
        TABLE
        + "language,m-large,0,0,0.01,2,Gamma,0.25,400\n"
        + "language,m-large,0,600,0.01,2,Gamma,0.25,400\n"
        + "language,m-mid,0,0,0.02,1,Weibull,1.1,40\n"
    )

    rows = list(read_trace([path]))

    first = [row.source for row in rows if row.at_s < 600]
    assert sorted(first) == ["m-large/0"] * 6 + ["m-mid/0"] * 12
    assert [row.source for row in rows if row.at_s >= 600] == ["m-large/0"] * 6


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("language,m,0,0,-0.01,2,Gamma,0.25,400", "rate_rps"),
        ("language,m,0,0,nan,2,Gamma,0.25,400", "rate_rps"),
        ("language,m,0,300,0.01,2,Gamma,0.25,400", "timestamp_s"),
        ("language,m,0,0,0.01,2,Pareto,0.25,400", "pattern"),
        ("language,m,0,0,0.01,2,Gamma,0,400", "shape"),
        ("language,m,0,0,0.01,2,Gamma,inf,400", "shape"),
    ],
)
def test_a_bad_window_is_named(write_trace: WriteTrace, row: str, column: str) -> None:
    with pytest.raises(TraceError) as caught:
        list(read_trace([write_trace(TABLE + row + "\n")]))
    assert (caught.value.line, caught.value.column) == (2, column)


@pytest.mark.parametrize(
    "dataset",
    [
        "{",
        "[1]",
        {"0": {"input_tokens": "{1: __import__('os')}", "output_tokens": "{}"}},
        {"0": {"input_tokens": "{1: -0.5}", "output_tokens": "{}"}},
        {"0": {"input_tokens": "{1: 0.0}", "output_tokens": "{}"}},
        {"zero": {"input_tokens": "{1: 1.0}", "output_tokens": "{}"}},
    ],
)
def test_a_bad_dataset_file_is_an_error(tmp_path: Path, dataset: object) -> None:
    path = client_files(tmp_path, "0,0.01,1,,0,0\n", dataset)

    with pytest.raises(TraceError, match=r"chunk-3-dataset\.json"):
        list(read_trace([path]))
