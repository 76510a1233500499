"""The public names of `sllmcore`, and the driver loop in its docstring."""

import ast
import subprocess
import sys
from inspect import cleandoc
from io import StringIO
from pathlib import Path
from random import Random
from textwrap import dedent
from types import SimpleNamespace

import pytest

import sllmcore
from sllmcore import (
    Checkpoint,
    Command,
    Event,
    InferenceFinished,
    JournalReader,
    LaunchInstance,
    LoadFinished,
    ModelDeployed,
    PolicySettings,
    Request,
    RequestArrived,
    ServerJoined,
    ServerSpec,
    StartRequest,
    StorageTier,
    build_controller,
    replay,
)


def imported_for_type_checkers() -> list[str]:
    tree = ast.parse(Path(sllmcore.__file__).read_text())
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [
        name.name
        for node in froms
        if (node.module or "").startswith("sllmcore.")
        for name in node.names
    ]


def test_every_public_name_can_be_imported_at_run_time_and_by_type_checkers() -> None:
    assert sorted(imported_for_type_checkers()) == sorted(sllmcore.__all__)
    for name in sllmcore.__all__:
        assert getattr(sllmcore, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Schedule"):
        _ = sllmcore.Schedule  # type: ignore[attr-defined]


def test_the_package_alone_imports_none_of_its_modules() -> None:
    code = (
        "import sllmcore, sys; print([name for name in sys.modules if name.startswith('sllmcore')])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "['sllmcore']"


class ExampleDriver:
    """The functions and objects that the example uses: one server, one client."""

    def __init__(self) -> None:
        spec = ServerSpec(
            id="s0",
            num_gpus=1,
            gpu_memory_bytes=100,
            dram_bytes=100,
            ssd_bytes=100,
            remote_bytes_per_s=1.0,
            ssd_bytes_per_s=1.0,
            dram_bytes_per_s=1.0,
        )
        request = Request("r1", "m", 0.0, 4)
        self.events: list[Event] = [
            ModelDeployed(Checkpoint("m", 10)),
            ServerJoined(spec),
            RequestArrived(request),
        ]
        self.now_s = 0.0
        self.journal = StringIO()
        self.commands: list[Command] = []

    def next_event(self, before_s: float | None) -> Event:
        self.now_s += 1.0
        return self.events.pop(0)

    def launch(self, command: LaunchInstance) -> None:
        self.commands.append(command)
        finished = LoadFinished(
            instance_id=command.instance_id,
            source=StorageTier.REMOTE,
            num_bytes=10,
            transfer_s=1.0,
            startup_s=0.0,
        )
        self.events.append(finished)

    def start(self, command: StartRequest) -> None:
        self.commands.append(command)
        finished = InferenceFinished(command.request_id, command.instance_id, 5, self.now_s)
        self.events.append(finished)

    def names(self) -> dict[str, object]:
        return {
            **{name: getattr(sllmcore, name) for name in sllmcore.__all__},
            "Random": Random,
            "journal": self.journal,
            "running": lambda: bool(self.events),
            "next_event": self.next_event,
            "clock_s": lambda: self.now_s,
            "servers": {"s0": SimpleNamespace(launch=self.launch)},
            "instances": {"i1": SimpleNamespace(start=self.start)},
        }


def test_the_driver_loop_of_the_docstring_serves_a_request_and_its_journal_replays() -> None:
    paragraphs = cleandoc(sllmcore.__doc__ or "").split("\n\n")
    (example,) = (each for each in paragraphs if each.startswith("    "))
    driver = ExampleDriver()

    exec(dedent(example), driver.names())

    assert [type(command) for command in driver.commands] == [LaunchInstance, StartRequest]
    reader = JournalReader(driver.journal.getvalue().splitlines())
    controller = build_controller(PolicySettings(), Random(reader.seed))
    assert replay(controller, reader.entries()) is None
