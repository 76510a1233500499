"""Hosts in processes of their own."""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from subprocess import run

import pytest

from sllmreal.engine import wire
from sllmreal.engine.process import HostProcess, HostSettings, encoded
from sllmreal.engine.timed import Pace, TimedOptions
from sllmreal.engine.wire import Epoch
from tests.engine.test_host import Owner
from tests.migration.samples import KEY, KV_LAYOUT, sample_spec, unmigrated_output

TIMED = HostSettings("timed", encoded(TimedOptions(pace=Pace(decode_step_s=0.002))))


@contextmanager
def process(
    settings: HostSettings = TIMED,
) -> Iterator[tuple[HostProcess, Owner, SimpleQueue[int]]]:
    owner = Owner()
    exits: SimpleQueue[int] = SimpleQueue()
    child = HostProcess(settings, owner.inbox.put, exits.put)
    try:
        yield child, owner, exits
    finally:
        child.stop()


def test_a_stream_moves_between_processes_and_loses_no_token() -> None:
    spec = sample_spec(num_output=400)
    terms = wire.Terms(KEY, "timed", KV_LAYOUT, None)
    with process() as (source, at_source, _), process() as (destination, at_destination, _):
        address = at_destination.next(wire.Online).address
        source.post(wire.Start(Epoch(1), wire.Spec.of(spec)))
        at_source.next(wire.Tokens, lambda one: one.first >= 30)
        destination.post(wire.Prepare(Epoch(2), wire.Spec.of(spec), terms))
        at_destination.next(wire.Prepared)
        source.post(wire.Migrate("r", Epoch(1), Epoch(2), address, terms))
        ready = at_destination.next(wire.Ready)
        destination.post(wire.Commit("r", Epoch(2), have=0))
        source.post(wire.Stop("r", Epoch(1)))
        moved = at_destination.next(wire.Tokens, lambda one: one.first == 0)
        rest = at_destination.output(Epoch(2), len(moved.tokens))

    assert ready.num_output >= 30
    assert moved.tokens + rest == unmigrated_output(spec)


def test_a_process_ends_when_it_is_told_to() -> None:
    with process() as (child, owner, exits):
        owner.next(wire.Online)
        child.post(wire.Shutdown())

        assert exits.get(timeout=10) == 0


def test_a_kill_is_told_as_an_exit_by_signal() -> None:
    with process() as (child, owner, exits):
        owner.next(wire.Online)
        child.kill()

        assert exits.get(timeout=10) == -signal.SIGKILL


@pytest.mark.parametrize(
    "settings",
    [
        HostSettings("guesses", b""),
        HostSettings("timed", encoded({"num_slots": 0})),
        HostSettings("timed", TIMED.settings, address="nowhere"),
    ],
)
def test_a_host_that_cannot_be_made_says_why(settings: HostSettings) -> None:
    with process(settings) as (_, owner, exits):
        broken = owner.next(wire.Broken)

        assert "UsageError" in broken.reason
        assert exits.get(timeout=10) == 1


def test_a_process_ends_with_its_parent() -> None:
    """A parent that is killed leaves the pid of its child behind, which soon is nobody's."""
    parent = (
        "import os, signal; from tests.engine.test_process import TIMED, HostProcess\n"
        "from threading import Event; online = Event()\n"
        "child = HostProcess(TIMED, lambda message: online.set(), print)\n"
        "online.wait(); print(child.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )

    killed = run([sys.executable, "-c", parent], capture_output=True, text=True, check=False)

    assert killed.returncode == -signal.SIGKILL
    assert _ends(int(killed.stdout), within_s=10.0)


def _ends(pid: int, within_s: float) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within_s)[0])
    finally:
        os.close(descriptor)


def test_a_host_process_does_not_import_what_only_others_need() -> None:
    code = (
        "import sys; import sllmreal.engine.process, sllmreal.migration.owner\n"
        "print([name for name in ('torch', 'transformers', 'fastapi', 'ray', 'simpy') "
        "if name in sys.modules])"
    )

    result = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"
