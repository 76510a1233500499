"""Lengths from files: exact ones from tables, estimates from texts."""

import json

import pytest

from tests.traces.conftest import WriteTrace
from traces.errors import TraceError
from traces.length_files import profile_of_file
from traces.report import TraceReport
from traces.spec import WorkloadSpec
from traces.workload import workload_requests


def test_a_table_of_lengths_is_a_profile(write_trace: WriteTrace) -> None:
    rows = "".join(f"{100 + place},{place + 1},7\n" for place in range(11))
    path = str(write_trace("num_prefill_tokens,num_decode_tokens,pd_ratio\n" + rows))
    report = TraceReport()

    profile = profile_of_file(path, report)

    assert profile.input.tokens == tuple(float(100 + place) for place in range(11))
    assert profile.output.tokens[-1] == 11.0
    assert report.notes == []


def test_texts_of_sharegpt_are_estimated_and_noted(write_trace: WriteTrace) -> None:
    chats = [
        {
            "conversations": [
                {"from": "human", "value": "x" * 40},
                {"from": "gpt", "value": "y" * 8},
            ]
        },
        {"conversations": [{"from": "human", "value": "alone"}]},
    ]
    report = TraceReport()

    profile = profile_of_file(str(write_trace(json.dumps(chats))), report)

    assert (profile.input.tokens, profile.output.tokens) == ((10.0, 10.0), (2.0, 2.0))
    assert "estimates, 4 bytes a token" in report.notes[0]


def test_vllms_custom_prompts_keep_their_output_lengths(write_trace: WriteTrace) -> None:
    text = '{"prompt": "hello you", "output_tokens": 10}\n'

    profile = profile_of_file(str(write_trace(text)), TraceReport())

    assert (profile.input.tokens[0], profile.output.tokens[0]) == (2.0, 10.0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a,b\n1,2\n", "a column each for input and output tokens"),
        ("input_tokens,output_tokens\n1,x\n", "column 'output_tokens': expected a number"),
        ('{"text": "hi"}\n', "neither lengths of input and output nor conversations"),
        ('{"prompt": "hi", "output_tokens": null}\n', "expected a number"),
        ('[{"conversations": []}]', "the file has no lengths"),
        ("input_tokens,output_tokens\n", "the file has no lengths"),
    ],
)
def test_a_file_without_lengths_is_an_error(
    write_trace: WriteTrace, text: str, problem: str
) -> None:
    with pytest.raises(TraceError, match=problem):
        profile_of_file(str(write_trace(text)), TraceReport())


def test_a_workload_draws_lengths_from_a_file(write_trace: WriteTrace) -> None:
    path = str(write_trace("input_tokens,output_tokens\n500,30\n500,30\n"))
    spec = WorkloadSpec(kind="poisson", target_rps=1.0, max_requests=5, lengths=path)

    requests = list(workload_requests(spec, ("a",), 0))

    assert {(item.request.input_tokens, item.output_tokens) for item in requests} == {(500, 30)}
    assert spec.files == (path,)


def test_lengths_that_are_neither_a_profile_nor_a_file_are_an_error() -> None:
    with pytest.raises(TraceError, match=r"no length profile 'none\.csv' and no such file"):
        WorkloadSpec(kind="poisson", target_rps=1.0, max_requests=1, lengths="none.csv")
