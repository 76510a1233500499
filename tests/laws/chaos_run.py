"""Chaos runs: random steps that the contract allows, then steps that end all that is open."""

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random

from sllmcore.events import (
    ModelDeleted,
    ModelDeployed,
    RequestArrived,
    RequestCancelled,
    ServerDraining,
    ServerJoined,
)
from sllmcore.types import Checkpoint, Residency, ServerSpec
from tests.builders import request_of
from tests.laws.cases import Case
from tests.laws.chaos import ChaosDriver
from tests.laws.final_state import check_final_state
from tests.laws.missed_starts import check_no_missed_start, decides_repeatably
from tests.laws.observer import Observer
from tests.laws.runs import Log, fresh

_Step = Callable[[], None]
_MAX_DRAINING_STEPS = 5_000


class ChaosRun:
    """A run of `num_steps` of any kind, then steps without new requests and failures.

    Args:
        storms: Factor on the frequency of failures, 0 for none.
    """

    def __init__(self, case: Case, seed: int, num_steps: int, storms: float) -> None:
        self.rng = Random(f"{seed}/chaos")
        self.log, self.observer = Log(), Observer()
        self.driver = ChaosDriver(fresh(case.policy), self.rng, self.observer, self.log)
        self._checks_starts = decides_repeatably(case)
        self._storms = storms
        self._pace = self.rng.choice([0.01, 0.03, 0.3])  # weight of finishing a request
        self._demand = self.rng.choice([0.2, 1.0])
        self._num_steps = num_steps
        self._models = [model.checkpoint for model in case.setup.models]
        self._slots = case.setup.models[0].num_slots
        self._deployed: dict[str, Checkpoint] = {}
        self._offers: dict[str, tuple[ServerSpec, tuple[Residency, ...]]] = {
            s.id: (s.hardware.spec(s.id), s.resident) for s in case.setup.servers
        }
        self._draining: set[str] = set()
        self._num_requests = 0

    def play(self) -> None:
        """Run all steps and check the final state."""
        for model in self._models:
            self._deploy(model)
        for server_id in self._offers:
            self._join(server_id)
        for _ in range(self._num_steps):
            self._step(self._options(calm=False))
        for server_id in self._offers:
            if server_id not in self.driver.queues:
                self._join(server_id)
        for _ in range(_MAX_DRAINING_STEPS):
            if not self._step(self._options(calm=True)):
                break
        else:
            raise AssertionError("the run does not end")
        self.observer.check_over()
        assert not self.driver.moves and not any(self.driver.queues.values())
        check_final_state(self.driver.controller, self.observer)

    def _step(self, options: list[tuple[float, _Step]]) -> bool:
        driver = self.driver
        due_s = driver.controller.next_wakeup_s
        if due_s is not None and due_s <= driver.now_s:
            options.append((4.0, driver.wake))
        if not options:
            if due_s is None:
                return False
            driver.now_s = due_s
            return True
        weights = [weight for weight, _ in options]
        chosen = self.rng.choices([step for _, step in options], weights)[0]
        chosen()
        if self._checks_starts:
            check_no_missed_start(driver.controller, driver.now_s)
        driver.now_s += self.rng.choice([0.0, 0.0, 0.5, 0.5, 1.0])
        return True

    def _options(self, calm: bool) -> list[tuple[float, _Step]]:
        options = self._answers()
        if not calm:
            options += self._requests() + self._changes()
            options += [(0.05 * self._storms * w, step) for w, step in self._failures()]
        return options

    def _answers(self) -> list[tuple[float, _Step]]:
        """Return the steps that carry out commands and answer them."""
        driver = self.driver
        options: list[tuple[float, _Step]] = [
            (3.0, partial(driver.deliver_one, server_id))
            for server_id, queue in driver.queues.items()
            if queue
        ]
        for instance_id, engine in driver.engines.items():
            if not engine.ready:
                options.append((1.0, partial(driver.finish_load, instance_id)))
            options += [
                (self._pace, partial(driver.finish_inference, instance_id, request_id))
                for request_id in sorted(engine.requests)
            ]
            options += [
                (2.0, partial(driver.stop_inference, instance_id, request_id))
                for request_id in sorted(engine.stopping)
            ]
        for move_id in driver.moves:
            if driver.movable(move_id):
                options.append((1.0, partial(driver.finish_migration, move_id)))
            else:
                options.append((1.0, partial(driver.fail_migration, move_id)))
        return options

    def _failures(self) -> list[tuple[float, _Step]]:
        driver = self.driver
        options: list[tuple[float, _Step]] = []
        for instance_id, engine in driver.engines.items():
            options.append((1.0, partial(driver.lose_instance, instance_id)))
            if not engine.ready:
                options.append((2.0, partial(driver.fail_load, instance_id)))
            options += [
                (1.0, partial(driver.fail_inference, instance_id, request_id))
                for request_id in sorted(engine.requests)
            ]
        options += [(4.0, partial(driver.fail_migration, move_id)) for move_id in driver.moves]
        options += [(1.0, partial(self._lose, server_id)) for server_id in driver.queues]
        return options

    def _requests(self) -> list[tuple[float, _Step]]:
        waiting = [r.id for r in self.observer.requests.values() if r.end is None]
        leaving: list[tuple[float, _Step]] = [
            (0.03, partial(self.driver.report, RequestCancelled(request_id)))
            for request_id in waiting
        ]
        leaving += [  # where most events cross
            (0.3, partial(self.driver.report, RequestCancelled(move.request_id)))
            for move in self.driver.moves.values()
        ]
        return [(self._demand, self._arrive), *leaving]

    def _changes(self) -> list[tuple[float, _Step]]:
        options: list[tuple[float, _Step]] = []
        for server_id in self._offers:
            if server_id not in self.driver.queues:
                options.append((0.5, partial(self._join, server_id)))
            elif server_id not in self._draining:
                options.append((0.02 * self._storms, partial(self._drain, server_id)))
        for model in self._models:
            if model.model not in self._deployed:
                options.append((0.5, partial(self._deploy, model)))
            else:
                options.append((0.01 * self._storms, partial(self._delete, model)))
        return options

    def _arrive(self) -> None:
        self._num_requests += 1
        model = self.rng.choice(self._models).model
        request = request_of(self._num_requests, model, self.driver.now_s)
        self.driver.report(RequestArrived(request))

    def _join(self, server_id: str) -> None:
        self.driver.queues[server_id] = deque()
        self.driver.report(ServerJoined(*self._offers[server_id]))

    def _lose(self, server_id: str) -> None:
        self._draining.discard(server_id)
        self.driver.lose_server(server_id)

    def _drain(self, server_id: str) -> None:
        self._draining.add(server_id)
        self.driver.report(ServerDraining(server_id))

    def _deploy(self, model: Checkpoint) -> None:
        self._deployed[model.model] = model
        self.driver.report(ModelDeployed(model, self._slots))

    def _delete(self, model: Checkpoint) -> None:
        del self._deployed[model.model]
        self.driver.report(ModelDeleted(model.model))
