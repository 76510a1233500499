"""One controller, several worlds: the same scenario, the same commands."""

import pytest

from tests.contract.drivers import in_processes, in_threads, simulated
from tests.contract.scenarios import SCENARIOS, Scenario


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_threads_are_told_what_the_simulation_is_told(scenario: Scenario) -> None:
    assert in_threads(scenario) == simulated(scenario)


@pytest.mark.parametrize("scenario", SCENARIOS[:4], ids=lambda one: one.name)
def test_processes_are_told_what_threads_are_told(scenario: Scenario) -> None:
    assert in_processes(scenario) == in_threads(scenario)
