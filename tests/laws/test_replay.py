"""The commands of a controller depend on its events alone.

Seeded bug that these tests have caught: instances processed in the order of their hashes.
"""

import hashlib
import os
import subprocess
import sys

import pytest
from hypothesis import given

from sllmcore.events import Event, MigrationFailed, MigrationFinished, ServerLost
from sllmcore.journal import JournalEntry, JournalReader, entry_line, header_line, replay
from tests.laws.cases import Case, CaseSize, case_of, cases
from tests.laws.chaos_run import ChaosRun
from tests.laws.runs import Log, fresh, play

# Cases with migrations that finish and that fail, lost servers and controller crashes.
BUSY_SEEDS = (367, 253, 93, 259)
BUSY = CaseSize(num_servers=4, num_jobs=24, num_faults=6)


def entries(log: Log) -> list[JournalEntry]:
    return [JournalEntry(now_s, event, commands) for now_s, event, commands in log.entries]


def lines(case: Case, log: Log) -> list[str]:
    return [header_line(case.policy, 7)] + [entry_line(*entry) for entry in log.entries]


def digest() -> str:
    """Return a digest of the journals of busy cases."""
    digested = hashlib.sha256()
    for seed in [*BUSY_SEEDS, *range(20)]:
        case = case_of(seed, BUSY)
        digested.update("\n".join(lines(case, play(case).log)).encode())
    return digested.hexdigest()


@given(cases(max_faults=6))
def test_a_recorded_run_replays_to_the_same_commands(case: Case) -> None:
    log = play(case).log

    assert replay(fresh(case.policy), entries(log)) is None


@given(cases(max_faults=6))
def test_a_journal_that_went_through_text_replays_to_the_same_commands(case: Case) -> None:
    written = lines(case, play(case).log)

    read = list(JournalReader(written).entries())

    assert [entry_line(e.now_s, e.event, e.commands) for e in read] == written[1:]
    assert replay(fresh(case.policy), read) is None


@given(cases(max_faults=6))
def test_the_same_case_runs_twice_to_the_same_log(case: Case) -> None:
    assert play(case).log.entries == play(case).log.entries


def test_the_busy_cases_have_migrations_and_losses() -> None:
    seen: set[type[Event]] = set()
    for seed in BUSY_SEEDS:
        seen |= {type(event) for _, event, _ in play(case_of(seed, BUSY)).log.entries}

    assert {MigrationFinished, MigrationFailed, ServerLost} <= seen


@pytest.mark.parametrize("seed", BUSY_SEEDS)
def test_a_controller_killed_at_any_event_goes_on_with_the_same_commands(seed: int) -> None:
    case = case_of(seed, BUSY)
    log = play(case).log

    for killed_at in range(len(log.entries)):
        successor = fresh(case.policy)
        for now_s, event, _ in log.entries[:killed_at]:
            successor.handle(event, now_s)
        rest = [
            tuple(successor.handle(event, now_s)) for now_s, event, _ in log.entries[killed_at:]
        ]

        assert rest == [commands for _, _, commands in log.entries[killed_at:]]


def test_a_controller_killed_at_any_event_of_a_chaotic_run_goes_on_with_the_same_commands() -> None:
    case = case_of(5, CaseSize(4, 1, 0))
    run = ChaosRun(case, 5, 150, storms=1.0)
    run.play()
    expected = [commands for _, _, commands in run.log.entries]

    for killed_at in range(0, len(expected), 7):
        successor = fresh(case.policy)
        for now_s, event, _ in run.log.entries[:killed_at]:
            successor.handle(event, now_s)
            _ = successor.next_wakeup_s  # reading it changes nothing
        rest = run.log.entries[killed_at:]

        assert [tuple(successor.handle(e, now_s)) for now_s, e, _ in rest] == expected[killed_at:]


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
