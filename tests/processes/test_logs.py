"""Log records: their form on stderr, and the failures that an operator of `sllm serve` can read."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from sllmreal import logs
from sllmreal.cli.processes import cluster_processes
from sllmreal.control.home import Home, opened_home
from sllmreal.processes.server_options import add_sizes

PATIENCE_S = 60.0
SERVE = (sys.executable, "-m", "sllmreal.cli", "serve", "--port", "0", "--paced", "--log-json")
DEPLOY = """
import asyncio, sys
from pathlib import Path
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.home import opened_home
from sllmreal.control.messages import DeployModel
from sllmreal.control.operator import ask

model = ModelDeployment("broken", "/broken", 1000, 100, 0.0, "no such engine")
asyncio.run(ask(opened_home(Path(sys.argv[1])), DeployModel(model), wait_s=60))
"""


def test_a_text_record_has_time_level_logger_message_and_ids(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("info", as_json=False)

    log.debug("not shown")
    log.warning("peer lost: %s", "silent for 3.0 s", extra={"server": "s0", "peer": "w0"})
    log.info("two\nlines")

    lost, two_lines = capsys.readouterr().err.splitlines()
    time_ = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"
    expected = r" WARNING leader\.leader: peer lost: silent for 3\.0 s  server=s0 peer=w0"
    assert re.fullmatch(time_ + expected, lost)
    assert two_lines.endswith(r" INFO leader.leader: two\nlines")


def test_a_json_record_is_one_object_with_ids_and_exception(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("error", as_json=True)

    log.warning("not shown")
    try:
        raise ValueError("bad")
    except ValueError:
        log.exception("load failed\nagain", extra={"instance": "i1", "model": "m"})

    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert record.pop("time").endswith("+00:00")
    assert record.pop("exception").endswith("ValueError: bad")
    assert record == {
        "level": "error",
        "logger": "leader.leader",
        "message": "load failed\nagain",
        "instance": "i1",
        "model": "m",
    }


def test_a_second_configuration_replaces_the_first_and_other_loggers_stay(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [logging.getLogger(name) for name in (None, "uvicorn", "ray")]
    before = [(list(one.handlers), one.level, one.propagate) for one in others]

    logs.configure("debug", as_json=False)
    logs.configure("warning", as_json=False)
    log.warning("once")

    assert capsys.readouterr().err.count("once") == 1
    assert [(one.handlers, one.level, one.propagate) for one in others] == before


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="one of debug, info, warning, error, got 'loud'"):
        logs.configure("loud", as_json=False)


def test_children_log_as_their_parent_does(log: logging.Logger, tmp_path: Path) -> None:
    logs.configure("debug", as_json=True)
    parser = ArgumentParser()
    add_sizes(parser)
    arguments = parser.parse_args([])
    arguments.__dict__.update(
        workers=1,
        placement="processes",
        listen=None,
        store="sqlite",
        policy="serverlessllm",
        settings=[],
    )

    for command in cluster_processes(Home(tmp_path), arguments):
        at = command.arguments.index("--log-level")
        assert command.arguments[at : at + 3] == ("--log-level", "debug", "--log-json")


def records(file: Path) -> list[dict[str, Any]]:
    """The records in a log of JSON lines; every whole line is one."""
    lines = file.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def record_with(file: Path, text: str, logger: str = "") -> dict[str, Any]:
    """Wait for a record with this text in its message, of that logger if one is given."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        for record in records(file):
            if text in record["message"] and logger in ("", record["logger"]):
                return record
        time.sleep(0.05)
    raise AssertionError(f"no record with {text!r} in {file.read_text()}")


@pytest.mark.timeout(180)
def test_serve_logs_why_a_load_failed_and_that_a_process_was_restarted(tmp_path: Path) -> None:
    stderr = tmp_path / "stderr"
    with tempfile.TemporaryDirectory() as directory, stderr.open("w") as log:
        home = opened_home(Path(directory) / "h")  # short: sockets lie in it
        command = (*SERVE, "--home", str(home.directory))
        with subprocess.Popen(command, stderr=log) as serve:
            try:
                address = record_with(stderr, "serving on")["message"].partition("on ")[2]
                deploy = (sys.executable, "-c", DEPLOY, str(home.directory))
                subprocess.run(deploy, check=True, timeout=PATIENCE_S)
                body = json.dumps({"model": "broken", "prompt": [1], "max_tokens": 1}).encode()
                headers = {"Content-Type": "application/json"}
                request = urllib.request.Request(f"{address}/completions", body, headers)
                while error_code(request) == HTTPStatus.NOT_FOUND:
                    time.sleep(0.05)  # the gateway has not received the deployment yet
                failed = record_with(stderr, "load failed", "leader.event_logging")
                os.kill(leader_pid(home), signal.SIGKILL)
                restarted = record_with(stderr, "starting it again")
            finally:
                serve.send_signal(signal.SIGINT)

    assert failed["level"] == restarted["level"] == "warning"
    assert "no such engine" in failed["message"]
    assert (failed["model"], failed["server"]) == ("broken", "s0")
    assert failed["instance"]
    assert restarted["message"] == "leader ended with code -9; starting it again"
    assert serve.returncode == 0


def error_code(request: urllib.request.Request) -> int:
    """Send a request that fails; return its status."""
    with pytest.raises(urllib.error.HTTPError) as failure:
        urllib.request.urlopen(request, timeout=PATIENCE_S)
    with failure.value as error:
        return error.code


def leader_pid(home: Home) -> int:
    """The process id of a home's leader."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if (
                b"sllmreal.processes.leader" in arguments
                and str(home.directory).encode() in arguments
            ):
                return int(entry.name)
    raise AssertionError("no leader runs")
