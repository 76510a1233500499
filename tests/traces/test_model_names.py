"""Rows go to the deployed models that they name; unknown and mixed names are errors."""

from typing import Any

import pytest

from tests.traces.conftest import WriteTrace
from traces.errors import TraceError
from traces.report import TraceReport
from traces.spec import WorkloadSpec
from traces.workload import workload_requests

MODELS = ("llama3_8b-0", "llama3_8b-1", "llama3-70b-0", "mixtral-8x7b-0")


def called(
    write_trace: WriteTrace,
    names: list[str],
    models: tuple[str, ...] = MODELS,
    report: TraceReport | None = None,
    **fields: Any,
) -> list[str]:
    """Return the model of each row of a trace, given the name in each row."""
    rows = "".join(f"{1000 * place},5,5,{name}\n" for place, name in enumerate(names))
    path = write_trace("timestamp,input_length,output_length,model\n" + rows)
    spec = WorkloadSpec(kind="trace", path=str(path), **fields)
    return [
        item.request.model
        for item in workload_requests(spec, models, 0, None, report or TraceReport())
    ]


def test_a_row_goes_to_the_model_that_it_names(write_trace: WriteTrace) -> None:
    names = ["mixtral-8x7b-0", "llama3_8b-1", "mixtral-8x7b-0", "llama3_8b-0"]

    assert called(write_trace, names) == names


def test_the_name_of_a_deployment_calls_its_copies_in_turn(write_trace: WriteTrace) -> None:
    report = TraceReport()

    models = called(write_trace, ["llama3-70b", *["llama3-8b"] * 3], report=report)

    assert models == ["llama3-70b-0", "llama3_8b-0", "llama3_8b-1", "llama3_8b-0"]
    assert report.models == {
        "llama3-70b": ["llama3-70b-0"],
        "llama3-8b": ["llama3_8b-0", "llama3_8b-1"],
    }
    assert report.mapping == "rows go to the model that they name"


def test_an_unknown_name_is_an_error_that_lists_what_is_deployed(write_trace: WriteTrace) -> None:
    with pytest.raises(
        TraceError, match=r"'gpt-4', which is not deployed; deployed are llama3_8b-0, "
    ):
        called(write_trace, ["gpt-4", "mixtral-8x7b"])


def test_names_of_which_some_are_unknown_are_an_error(write_trace: WriteTrace) -> None:
    with pytest.raises(TraceError, match=r"'gpt-4', which is not deployed; deployed are .*mixtral"):
        called(write_trace, ["mixtral-8x7b", "gpt-4"])


def test_a_name_that_two_deployments_have_is_unknown(write_trace: WriteTrace) -> None:
    with pytest.raises(TraceError, match="'A1', which is not deployed"):
        called(write_trace, ["A1"], ("a-1-0", "a1-0"))


def test_an_exact_name_comes_before_a_similar_one(write_trace: WriteTrace) -> None:
    assert called(write_trace, ["a1", "a-1"], ("a-1", "a1-0")) == ["a1-0", "a-1"]


@pytest.mark.parametrize("mapping", ["stripe", "blocks"])
def test_names_are_mapped_to_other_models_on_request(write_trace: WriteTrace, mapping: str) -> None:
    report = TraceReport()

    models = called(write_trace, ["x", "y", "x"], ("a", "b"), report, mapping=mapping)

    assert models == ["a", "b", "a"]
    assert report.models == {"x": ["a"], "y": ["b"]}


def test_rows_without_names_are_drawn_by_popularity(write_trace: WriteTrace) -> None:
    path = write_trace("timestamp,input_length,output_length\n" + "0,5,5\n" * 40)
    spec, report = WorkloadSpec(kind="trace", path=str(path)), TraceReport()

    requests = list(workload_requests(spec, ("a", "b"), 0, None, report))

    assert {item.request.model for item in requests} == {"a", "b"}
    assert report.mapping == "rows name no model; drawn by popularity, of 2"


@pytest.mark.parametrize(("first", "second"), [("", '"model": "a", '), ('"model": "a", ', "")])
def test_rows_of_which_only_some_have_a_name_are_an_error(
    write_trace: WriteTrace, first: str, second: str
) -> None:
    path = write_trace(
        "".join(
            f'{{{part}"timestamp": 0, "input_length": 1, "output_length": 1}}\n'
            for part in (first, second)
        )
    )

    with pytest.raises(TraceError, match="some rows name a deployed model and others do not"):
        list(workload_requests(WorkloadSpec(kind="trace", path=str(path)), ("a", "b"), 0))


BURST = (
    "Timestamp,Model,Request tokens,Response tokens\n0,ChatGPT,5,5\n1,GPT-4,5,5\n2,ChatGPT,5,5\n"
)


def test_services_that_nothing_deployed_has_the_name_of_are_mapped_in_turn(
    write_trace: WriteTrace,
) -> None:
    spec, report = WorkloadSpec(kind="burstgpt", path=str(write_trace(BURST))), TraceReport()

    requests = list(workload_requests(spec, ("a", "b", "c"), 0, None, report))

    assert [item.request.model for item in requests] == ["a", "b", "a"]
    assert report.mapping == "no name is deployed; stripe, of 3"


@pytest.mark.parametrize("models", [("ChatGPT", "b"), ("gpt-4", "b")])
def test_services_of_which_one_is_deployed_are_an_error(
    write_trace: WriteTrace, models: tuple[str, ...]
) -> None:
    spec = WorkloadSpec(kind="burstgpt", path=str(write_trace(BURST)))

    with pytest.raises(TraceError, match="deployed"):
        list(workload_requests(spec, models, 0))


def test_the_report_shows_a_dozen_names_and_counts_the_others() -> None:
    report = TraceReport(mapping="stripe, of 2")
    report.models = {f"f{place}": ["a"] for place in range(20)}

    lines = list(report.lines())

    assert lines[:2] == ["models: stripe, of 2", "  f0 -> a"]
    assert lines[-1] == "  and 8 more names"


def test_the_report_shows_four_copies_of_a_deployment() -> None:
    report = TraceReport(models={"a": [f"a-{index}" for index in range(32)]})

    assert list(report.lines()) == ["  a -> a-0, a-1, a-2, a-3 and 28 more"]
