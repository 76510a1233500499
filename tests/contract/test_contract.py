"""The contract: the controller gives the same commands with every driver."""

import pytest

from tests.contract.drivers import in_processes, in_threads, simulated
from tests.contract.scenarios import SCENARIOS, Scenario


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_engines_in_threads_get_the_commands_of_the_simulation(scenario: Scenario) -> None:
    assert in_threads(scenario) == simulated(scenario)


@pytest.mark.parametrize("scenario", SCENARIOS[:4], ids=lambda one: one.name)
def test_engines_in_processes_get_the_commands_of_those_in_threads(scenario: Scenario) -> None:
    assert in_processes(scenario) == in_threads(scenario)
