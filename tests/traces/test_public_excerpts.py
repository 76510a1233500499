"""Excerpts of the public traces, where available, have their published statistics."""

from pathlib import Path

import pytest

from traces.account import Account
from traces.data_files import load_json
from traces.read import ReadOptions, read_trace
from traces.spec import WorkloadSpec
from traces.summary import summary_of
from traces.workload import workload_requests

TRACES = Path(__file__).parents[2].parent / "shared" / "traces"
pytestmark = pytest.mark.skipif(not TRACES.is_dir(), reason="the excerpts are not available")

MODELS = tuple(f"m{i}" for i in range(16))


@pytest.mark.parametrize(("service", "rows"), [("code", 8_819), ("conv", 19_366)])
def test_the_azure_llm_traces_have_their_published_statistics(service: str, rows: int) -> None:
    path = TRACES / "azure_llm_2023" / f"AzureLLMInferenceTrace_{service}.csv.gz"
    target = load_json("published_targets.json")["services"][service]

    numbers = summary_of(read_trace([path]))

    assert numbers.num_rows == rows
    assert numbers.gap_cv == pytest.approx(target["gap_cv"], rel=1e-3)
    assert [d.value for d in numbers.dispersion] == pytest.approx(
        [target["iod"][window] for window in ("1", "10", "60", "600")], rel=1e-4
    )
    assert numbers.minute_correlation[0].value == pytest.approx(target["minute_acf_lag1"], abs=1e-4)
    for lengths, side in ((numbers.input_tokens, "input"), (numbers.output_tokens, "output")):
        assert lengths is not None
        expected = [target[f"{side}_tokens"][q] for q in ("p50", "p90", "p99")]
        assert [q.value for q in lengths.quantiles] == pytest.approx(expected, rel=1e-3)


EXCERPTS = (
    ("azure_llm_2023/AzureLLMInferenceTrace_code.csv.gz", 8_819),
    ("azure_functions_2019/invocations_per_function_md*.csv.gz", 9_266),
    ("azure_functions_2021/AzureFunctions*.csv.gz", 199),
    ("mooncake/synthetic_trace.csv.gz", 3_993),
)


@pytest.mark.parametrize(("pattern", "rows"), EXCERPTS)
def test_every_row_of_an_excerpt_is_one_request(pattern: str, rows: int) -> None:
    (path,) = TRACES.glob(pattern)
    account = Account()

    requests = list(
        workload_requests(WorkloadSpec(kind="trace", path=str(path)), MODELS, 0, account)
    )

    assert (len(requests), account.rows_read, account.jobs) == (rows, rows, rows)
    arrivals = [item.request.arrived_at_s for item in requests]
    assert arrivals == sorted(arrivals)


def test_the_minutes_of_functions_2019_are_replayed_to_the_last_call() -> None:
    (path,) = TRACES.glob("azure_functions_2019/invocations_per_function_md*.csv.gz")

    for gaps in ("uniform", "exponential", "equidistant"):
        rows = list(read_trace([path], ReadOptions(minute_gaps=gaps)))
        first = [row for row in rows if row.source.startswith("1ea6837c") and row.at_s < 180]
        assert len(rows) == 9_266
        assert len(first) == 27 + 26 + 26


def test_mooncake_is_the_poisson_process_its_authors_made() -> None:
    numbers = summary_of(read_trace([TRACES / "mooncake" / "synthetic_trace.csv.gz"]))

    assert numbers.rate_rps == pytest.approx(3.906, abs=0.01)
    assert numbers.gap_cv == pytest.approx(1.011, abs=0.001)
    assert numbers.dispersion[1].value == pytest.approx(1.189, abs=0.001)
