"""What a controller does depends on what it was told, and on nothing else.

Seeded bug that these tests have caught: instances looked at in the order of their hashes.
"""

import hashlib
import os
import subprocess
import sys

import pytest
from hypothesis import given

from sllmcore.events import Event, MigrationFailed, MigrationFinished, ServerLost
from sllmcore.journal import JournalEntry, JournalReader, entry_line, header_line, replay
from tests.laws.chaos_run import ChaosRun
from tests.laws.runs import Log, fresh, play
from tests.laws.worlds import World, WorldSize, world_of, worlds

# Worlds with migrations that finish and that fail, lost servers and controller crashes.
BUSY_SEEDS = (367, 253, 93, 259)
BUSY = WorldSize(num_servers=4, num_jobs=24, num_faults=6)


def entries(log: Log) -> list[JournalEntry]:
    return [JournalEntry(now_s, event, commands) for now_s, event, commands in log.entries]


def lines(world: World, log: Log) -> list[str]:
    return [header_line(world.policy, 7)] + [entry_line(*entry) for entry in log.entries]


def digest() -> str:
    """Of the journals of busy worlds."""
    digested = hashlib.sha256()
    for seed in [*BUSY_SEEDS, *range(20)]:
        world = world_of(seed, BUSY)
        digested.update("\n".join(lines(world, play(world).log)).encode())
    return digested.hexdigest()


@given(worlds(max_faults=6))
def test_a_recorded_run_replays_to_the_same_commands(world: World) -> None:
    log = play(world).log

    assert replay(fresh(world.policy), entries(log)) is None


@given(worlds(max_faults=6))
def test_a_journal_that_went_through_text_replays_to_the_same_commands(world: World) -> None:
    written = lines(world, play(world).log)

    read = list(JournalReader(written).entries())

    assert [entry_line(e.now_s, e.event, e.commands) for e in read] == written[1:]
    assert replay(fresh(world.policy), read) is None


@given(worlds(max_faults=6))
def test_the_same_world_runs_twice_to_the_same_log(world: World) -> None:
    assert play(world).log.entries == play(world).log.entries


def test_the_busy_worlds_are_busy() -> None:
    seen: set[type[Event]] = set()
    for seed in BUSY_SEEDS:
        seen |= {type(event) for _, event, _ in play(world_of(seed, BUSY)).log.entries}

    assert {MigrationFinished, MigrationFailed, ServerLost} <= seen


@pytest.mark.parametrize("seed", BUSY_SEEDS)
def test_a_controller_killed_at_any_event_goes_on_with_the_same_commands(seed: int) -> None:
    world = world_of(seed, BUSY)
    log = play(world).log

    for killed_at in range(len(log.entries)):
        heir = fresh(world.policy)
        for now_s, event, _ in log.entries[:killed_at]:
            heir.handle(event, now_s)
        told = [tuple(heir.handle(event, now_s)) for now_s, event, _ in log.entries[killed_at:]]

        assert told == [commands for _, _, commands in log.entries[killed_at:]]


def test_a_controller_killed_at_any_event_of_a_chaotic_run_goes_on_with_the_same_commands() -> None:
    world = world_of(5, WorldSize(4, 1, 0))
    run = ChaosRun(world, 5, 150, storms=1.0)
    run.play()
    expected = [commands for _, _, commands in run.log.entries]

    for killed_at in range(0, len(expected), 7):
        heir = fresh(world.policy)
        for now_s, event, _ in run.log.entries[:killed_at]:
            heir.handle(event, now_s)
            _ = heir.next_wakeup_s  # asking changes nothing
        rest = run.log.entries[killed_at:]

        assert [tuple(heir.handle(e, now_s)) for now_s, e, _ in rest] == expected[killed_at:]


def test_a_run_does_not_depend_on_the_seed_of_hashes() -> None:
    code = "from tests.laws.test_replay import digest; print(digest())"
    digests = set()
    for hash_seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout.strip())

    assert digests == {digest()}
