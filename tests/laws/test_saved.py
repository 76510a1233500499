"""A controller that is saved and restored between any two events goes on with the same commands.

Seeded bugs that these tests have caught, one at a time: an outbox that restarts its numbers; random
numbers that are seeded again; a scheduler with a copy of the estimator; timers without deadlines.
"""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sllmcore.build import POLICIES, PolicySettings, build_controller
from sllmcore.commands import Command, LaunchInstance
from sllmcore.controller import Controller
from sllmcore.events import (
    Event,
    InferenceFinished,
    LoadFinished,
    ModelDeployed,
    RequestArrived,
    RequestCancelled,
    ServerJoined,
)
from sllmcore.prewarming import PrewarmSettings
from sllmcore.types import Checkpoint, Request, ServerSpec, StorageTier
from sllmreal.leader.peers import PeerTable
from sllmreal.leader.state import LeaderState
from sllmreal.leader.state_snapshot import pickled, unpickled
from tests.laws.cases import CaseSize, case_of
from tests.laws.chaos_run import ChaosRun
from tests.laws.runs import fresh, play

BUSY = CaseSize(num_servers=4, num_jobs=24, num_faults=6)
BUSY_SEEDS = (367, 253, 93, 259)  # migrations that finish and that fail, lost servers


def restored(controller: Controller) -> Controller:
    """Pickle and unpickle a controller, as between two leaders."""
    return unpickled(pickled(LeaderState(controller, PeerTable()).saved(()))).controller


def check_goes_on(
    controller: Controller,
    entries: Sequence[tuple[float, Event, tuple[Command, ...]]],
    every: int,
) -> None:
    for number, (now_s, event, expected) in enumerate(entries):
        if number % every == 0:
            controller = restored(controller)
        assert tuple(controller.handle(event, now_s)) == expected, f"entry {number}: {event}"
        _ = controller.next_wakeup_s
        controller.audit()


@given(st.integers(0, 2**32), st.integers(1, 7))
@settings(max_examples=max(25, settings().max_examples // 4))
def test_any_run_goes_on(seed: int, every: int) -> None:
    case = case_of(seed, BUSY)
    entries = play(case).log.entries

    check_goes_on(fresh(case.policy), entries, every)


@pytest.mark.parametrize("seed", BUSY_SEEDS)
def test_a_run_with_migrations_and_losses_goes_on_after_every_event(seed: int) -> None:
    case = case_of(seed, BUSY)

    check_goes_on(fresh(case.policy), play(case).log.entries, 1)


@given(st.integers(0, 2**32), st.integers(1, 7))
@settings(max_examples=max(25, settings().max_examples // 4))
def test_a_chaotic_run_goes_on(seed: int, every: int) -> None:
    case = case_of(seed, CaseSize(4, 1, 0))
    run = ChaosRun(case, seed, 120, storms=0.5)
    run.play()

    check_goes_on(fresh(case.policy), run.log.entries, every)


def served(policy: str, num_requests: int) -> Controller:
    """Return a controller that has served requests and has none open; a tenth were cancelled."""
    chosen = PolicySettings(name=policy, prewarming=PrewarmSettings(10.0, 20.0, 2))
    controller = build_controller(chosen, random.Random(0))
    controller.handle(
        ServerJoined(
            ServerSpec(
                id="s",
                num_gpus=1,
                gpu_memory_bytes=100,
                dram_bytes=100,
                ssd_bytes=100,
                remote_bytes_per_s=1.0,
                ssd_bytes_per_s=1.0,
                dram_bytes_per_s=1.0,
            )
        ),
        0.0,
    )
    for model in ("a", "b"):
        controller.handle(ModelDeployed(Checkpoint(model, 50)), 0.0)
    for number in range(num_requests):
        now_s, request_id = number / 100, f"r{number % 10}"  # no deadline falls due
        model = "b" if number // 500 % 2 else "a"
        commands = controller.handle(RequestArrived(Request(request_id, model, now_s, 8)), now_s)
        for command in commands:
            if isinstance(command, LaunchInstance):
                finished = LoadFinished(
                    instance_id=command.instance_id,
                    source=StorageTier.REMOTE,
                    num_bytes=50,
                    transfer_s=0.5,
                    startup_s=0.1,
                )
                commands = controller.handle(finished, now_s)
        (infer,) = commands
        assert infer.request_id == request_id  # type: ignore[union-attr]
        waiting = Request("waits", "b" if model == "a" else "a", now_s, 8)
        if number % 10 == 0 and number % 500:
            controller.handle(RequestArrived(waiting), now_s)
            controller.handle(RequestCancelled("waits"), now_s)
        finished_inference = InferenceFinished(request_id, infer.instance_id, 4, now_s)  # type: ignore[union-attr]
        controller.handle(finished_inference, now_s)
    assert not controller.cluster.request_states
    return controller


@pytest.mark.parametrize("policy", POLICIES)
def test_a_saved_controller_does_not_grow_with_the_requests_it_served(policy: str) -> None:
    """Seeded bug: heap entries of deadlines and waiting requests that only the top loses."""
    few, many = (
        len(pickled(LeaderState(served(policy, number), PeerTable()).saved(())))
        for number in (1_000, 4_000)
    )

    assert many <= few + 8_000  # a heap may have dozens of invalid entries
