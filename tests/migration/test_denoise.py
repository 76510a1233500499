"""A job with a small state migrates by the same state machines as a sequence."""

import itertools

import numpy as np
import pytest

from sllmcore.migration_rounds import RoundSettings
from sllmreal.migration.denoise import DenoiseJob, DenoiseSpec
from sllmreal.migration.destination import DestinationOptions, MigrationDestination
from sllmreal.migration.errors import BadDeltaError
from sllmreal.migration.messages import LogDelta, Position, StateDelta
from sllmreal.migration.source import MigrationSource, SourceOptions
from sllmreal.migration.workload import DestinationWorkload, SourceWorkload

SPEC = DenoiseSpec(num_steps=24, size=16)


def finished(job: DenoiseJob) -> bytes:
    while job.advance_step():
        pass
    return job.result.tobytes()


def migrated(steps_before: int, steps_per_trip: int) -> DenoiseJob:
    """Migrate a job; its source does `steps_per_trip` steps per message. Return it."""
    at_source, at_destination = DenoiseJob(SPEC), DenoiseJob(SPEC, held=True)
    for _ in range(steps_before):
        at_source.advance_step()
    source = MigrationSource(
        as_source(at_source), Position(0, 0), SourceOptions(RoundSettings(final_gap=1)), 0.0
    )
    destination = MigrationDestination(as_destination(at_destination), DestinationOptions(), 0.0)
    for _ in range(40):
        for message in source.advance(0.0):
            source.receive(destination.receive(message, 0.0), 0.0)
        if destination.released:
            return at_destination
        for _ in range(steps_per_trip):
            at_source.advance_step()
    raise AssertionError("the migration did not end")


def as_source(job: SourceWorkload) -> SourceWorkload:
    return job


def as_destination(job: DestinationWorkload) -> DestinationWorkload:
    return job


@pytest.mark.parametrize("steps_per_trip", [0, 1, 3])
def test_a_job_that_migrates_at_any_step_has_the_same_result(steps_per_trip: int) -> None:
    whole = finished(DenoiseJob(SPEC))

    for steps_before in range(1, SPEC.num_steps):
        job = migrated(steps_before, steps_per_trip)
        assert job.step >= steps_before
        assert finished(job) == whole, steps_before


def test_every_step_changes_the_result() -> None:
    job = DenoiseJob(SPEC)
    results = [job.result]
    while job.advance_step():
        results.append(job.result)

    changes = [float(np.abs(a - b).max()) for a, b in itertools.pairwise(results)]
    assert len(changes) == SPEC.num_steps
    assert min(changes) > 1e-4
    assert all(np.isfinite(result).all() for result in results)


def test_a_delta_of_another_job_is_refused() -> None:
    job = DenoiseJob(SPEC, held=True)
    for wrong in (
        StateDelta(0, 1, (memoryview(bytes(12)),)),
        StateDelta(0, SPEC.num_steps + 1, (memoryview(bytes(SPEC.latent_bytes)),)),
        LogDelta(0, 1, memoryview(bytes(4))),
    ):
        with pytest.raises(BadDeltaError):
            job.absorb(wrong)
    assert job.step == 0
