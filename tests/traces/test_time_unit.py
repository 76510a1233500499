"""Units of times: by format, by stamps since 1970, by `time_unit`, and doubts about them."""

import json
from typing import Any

import pytest

from tests.traces.conftest import WriteTrace
from traces.cli import main
from traces.errors import TraceError
from traces.read import ReadOptions, read_trace
from traces.report import TraceReport
from traces.spec import WorkloadSpec
from traces.time_unit import epoch_unit, unit_in_name
from traces.workload import workload_requests


def lines(stamps: list[Any], **more: Any) -> str:
    return "".join(
        json.dumps({"timestamp": at, "input_length": 7, "output_length": 3, **more}) + "\n"
        for at in stamps
    )


def read(write_trace: WriteTrace, text: str, **options: Any) -> tuple[list[float], TraceReport]:
    report = TraceReport()
    rows = list(read_trace([write_trace(text)], ReadOptions(**options), None, report))
    return [row.at_s for row in rows], report


BAILIAN = {"chat_id": 4, "parent_chat_id": -1, "type": "text", "turn": 1, "hash_ids": [1]}


def test_three_fields_alone_are_mooncake_in_ms(write_trace: WriteTrace) -> None:
    times, report = read(write_trace, lines([0, 1500, 4000], hash_ids=[1]))

    assert times == [0.0, 1.5, 4.0]
    assert (report.format, report.time_unit) == ("mooncake", "ms")


def test_the_fields_of_a_chat_make_it_bailian_in_seconds(write_trace: WriteTrace) -> None:
    times, report = read(write_trace, lines([0.0, 1.5, 400.25], **BAILIAN))

    assert times == [0.0, 1.5, 400.25]
    assert (report.format, report.time_unit) == ("bailian", "s")


def test_bailian_is_recognised_as_a_table_too(write_trace: WriteTrace) -> None:
    names = "chat_id,parent_chat_id,timestamp,input_length,output_length,type,turn\n"
    times, report = read(write_trace, names + "0,-1,0.0,5,6,text,1\n1,0,2.5,5,6,text,2\n")

    assert (times, report.format) == ([0.0, 2.5], "bailian")


def test_a_time_unit_overrides_the_format(write_trace: WriteTrace) -> None:
    times, report = read(write_trace, lines([0.0, 2.0, 8.5]), time_unit="s")

    assert times == [0.0, 2.0, 8.5]
    assert (report.time_unit, report.notes) == ("s", [])


@pytest.mark.parametrize("stamps", [[0.0, 0.75, 2.5], [0, 400_000.5, 900_000]])
def test_fractions_of_a_millisecond_are_noted(write_trace: WriteTrace, stamps: list[float]) -> None:
    _, report = read(write_trace, lines(stamps))

    (note,) = report.notes
    assert "read as ms" in note
    assert "workload.time_unit=s" in note


def test_three_fields_that_other_tools_write_in_seconds_are_noted(write_trace: WriteTrace) -> None:
    _, alone = read(write_trace, lines([0, 60, 120]))
    _, chosen = read(write_trace, lines([0, 60, 120]), time_unit="ms")

    assert "read as ms; other tools write the same fields in s" in alone.notes[0]
    assert chosen.notes == []


def test_a_rate_that_no_service_has_is_noted(write_trace: WriteTrace) -> None:
    _, report = read(write_trace, lines([0, 1, 2, 5]))

    (note,) = report.notes
    assert "that makes 600 requests/s: if they are in s, set workload.time_unit=s" in note


def test_an_exported_workload_with_fractions_gets_no_note(write_trace: WriteTrace) -> None:
    _, report = read(write_trace, lines([0.5, 1200.25, 2700.125], model="a"))

    assert report.notes == []


def test_seconds_that_look_like_milliseconds_are_noted(write_trace: WriteTrace) -> None:
    text = lines([0, 1_000, 3_000], **BAILIAN)

    _, report = read(write_trace, text)

    assert "a request every 1500 s: if they are in ms" in report.notes[0]


@pytest.mark.parametrize(
    ("factor", "unit"), [(1, "s"), (1_000, "ms"), (1_000_000, "us"), (10**9, "ns")]
)
def test_stamps_since_1970_show_their_unit(write_trace: WriteTrace, factor: int, unit: str) -> None:
    stamps = [1_777_142_838 * factor, 1_777_142_840 * factor, 1_777_142_843 * factor]

    times, report = read(write_trace, lines(stamps))

    assert [at_s - times[0] for at_s in times] == [0.0, 2.0, 5.0]
    assert report.time_unit == unit
    assert bool(report.notes) == (unit != "ms")


@pytest.mark.parametrize("stamp", [0, 12.5, 604_800_000, 86_400_000_000])
def test_times_since_a_start_are_not_since_1970(stamp: float) -> None:
    assert epoch_unit(stamp) is None


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("arrival_time_ns", "ns"),
        ("Arrival (ms)", "ms"),
        ("start.seconds", "s"),
        ("arrival", None),
        ("s", None),
        ("tokens", None),
    ],
)
def test_a_name_of_a_column_may_end_with_its_unit(name: str, unit: str | None) -> None:
    assert unit_in_name(name) == unit


def test_dates_have_no_time_unit(write_trace: WriteTrace) -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1,1\n"

    with pytest.raises(TraceError, match="are dates or windows, not numbers: remove time_unit"):
        read(write_trace, text, time_unit="ms")


def test_a_workload_takes_the_unit_and_reports_doubts(write_trace: WriteTrace) -> None:
    path, report = str(write_trace(lines([0.0, 0.75, 2.5]))), TraceReport()

    list(workload_requests(WorkloadSpec(kind="trace", path=path), ("a",), 0, None, report))
    spec = WorkloadSpec(kind="trace", path=path, time_unit="s")
    requests = list(workload_requests(spec, ("a",), 0))

    assert len(report.notes) == 1
    assert [item.request.arrived_at_s for item in requests] == [0.0, 0.75, 2.5]


def test_describe_prints_doubts_and_takes_a_unit(
    write_trace: WriteTrace, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_trace(lines([0.0, 0.75, 2.5])))

    assert main(["describe", path, "--json"]) == 0
    doubtful = capsys.readouterr()
    assert main(["describe", path, "--json", "--time-unit", "s"]) == 0
    sure = capsys.readouterr()

    assert "note: " in doubtful.err
    assert json.loads(doubtful.out)["span_s"] == pytest.approx(0.0025)
    assert (json.loads(sure.out)["span_s"], sure.err) == (2.5, "")


@pytest.mark.parametrize(
    ("stamps", "unit"),
    [
        (["0", "500", "1000", "1400"], "ms"),
        (["0", "500000", "1000000", "1400000"], "us"),
        (["0", "500000000", "1000000000", "1400000000"], "ns"),
        (["0.5", "488.25", "1502.75"], "ms"),
    ],
)
def test_a_table_in_small_units_without_a_name_for_it_is_noted(
    write_trace: WriteTrace, stamps: list[str], unit: str
) -> None:
    text = "arrival,prompt_len,gen_len\n" + "".join(f"{at},5,6\n" for at in stamps)

    _, report = read(write_trace, text)

    assert f"if they are in {unit}, set workload.time_unit={unit}" in report.notes[0]


@pytest.mark.parametrize("stamps", [["0", "12", "25", "31"], ["0.1", "140.7", "260.9"]])
def test_likely_seconds_of_a_table_are_not_doubted(
    write_trace: WriteTrace, stamps: list[str]
) -> None:
    text = "arrival,prompt_len,gen_len\n" + "".join(f"{at},5,6\n" for at in stamps)

    _, report = read(write_trace, text)

    assert not any("set workload.time_unit" in note for note in report.notes)


def test_azure_columns_with_numbers_are_a_table(write_trace: WriteTrace) -> None:
    rows = "1777142838.25,5,6\n1777142839.5,5,6\n"

    times, report = read(write_trace, "TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)

    assert times == pytest.approx([0.0, 1.25])
    assert (report.format, report.time_unit) == ("table", "s")


def test_mooncake_fields_with_dates_are_read(write_trace: WriteTrace) -> None:
    stamps = ["2024-05-10 00:00:01.5", "2024-05-10 00:00:03"]
    table = "timestamp,input_length,output_length\n" + "".join(f"{at},7,3\n" for at in stamps)

    from_lines, _ = read(write_trace, lines(stamps))
    from_table, _ = read(write_trace, table)

    assert from_lines == from_table == [0.0, 1.5]


@pytest.mark.parametrize(("zone", "noted"), [("+02:00", True), ("+00:00", False), ("Z", False)])
def test_stamps_with_and_without_a_zone_are_noted(
    write_trace: WriteTrace, zone: str, noted: bool
) -> None:
    stamps = ["2024-05-10 12:00:01", f"2024-05-10 12:00:02{zone}"]
    rows = "".join(f"{at},5,6\n" for at in stamps)

    _, report = read(
        write_trace, "TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows, tolerance_s=9000.0
    )

    assert bool(report.notes) == noted
