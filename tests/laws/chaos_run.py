"""Runs in which anything that the contract allows may come next; then a time to heal and drain."""

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
from tests.laws.at_rest import check_at_rest
from tests.laws.chaos import ChaosDriver
from tests.laws.observer import Observer
from tests.laws.overlooked import can_be_asked_again, check_nobody_overlooked
from tests.laws.runs import Log, fresh
from tests.laws.worlds import World

_Step = Callable[[], None]
_MAX_DRAINING_STEPS = 5_000


class ChaosRun:
    """One run: `num_steps` of anything, then only what brings things to their end.

    Args:
        storms: How much likelier failures are than in calm weather, 0 for none.
    """

    def __init__(self, world: World, seed: int, num_steps: int, storms: float) -> None:
        self.rng = Random(f"{seed}/chaos")
        self.log, self.observer = Log(), Observer()
        self.driver = ChaosDriver(fresh(world.policy), self.rng, self.observer, self.log)
        self._asks = can_be_asked_again(world)
        self._storms = storms
        self._pace = self.rng.choice([0.01, 0.03, 0.3])  # of inferences
        self._demand = self.rng.choice([0.2, 1.0])
        self._num_steps = num_steps
        self._models = [model.checkpoint for model in world.setup.models]
        self._slots = world.setup.models[0].num_slots
        self._deployed: dict[str, Checkpoint] = {}
        self._offers: dict[str, tuple[ServerSpec, tuple[Residency, ...]]] = {
            s.id: (s.hardware.spec(s.id), s.resident) for s in world.setup.servers
        }
        self._draining: set[str] = set()
        self._num_requests = 0

    def play(self) -> None:
        """All of it; afterwards nothing may be open."""
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
            raise AssertionError("it never comes to rest")
        self.observer.check_over()
        assert not self.driver.moves and not any(self.driver.queues.values())
        check_at_rest(self.driver.controller, self.observer)

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
        if self._asks:
            check_nobody_overlooked(driver.controller, driver.now_s)
        driver.now_s += self.rng.choice([0.0, 0.0, 0.5, 0.5, 1.0])
        return True

    def _options(self, calm: bool) -> list[tuple[float, _Step]]:
        options = self._answers()
        if not calm:
            options += self._requests() + self._changes()
            options += [(0.05 * self._storms * w, step) for w, step in self._failures()]
        return options

    def _answers(self) -> list[tuple[float, _Step]]:
        """Commands that take effect, and what they bring about."""
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
            (0.03, partial(self.driver.tell, RequestCancelled(request_id)))
            for request_id in waiting
        ]
        leaving += [  # where most can cross
            (0.3, partial(self.driver.tell, RequestCancelled(move.request_id)))
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
        self.driver.tell(RequestArrived(request))

    def _join(self, server_id: str) -> None:
        self.driver.queues[server_id] = deque()
        self.driver.tell(ServerJoined(*self._offers[server_id]))

    def _lose(self, server_id: str) -> None:
        self._draining.discard(server_id)
        self.driver.lose_server(server_id)

    def _drain(self, server_id: str) -> None:
        self._draining.add(server_id)
        self.driver.tell(ServerDraining(server_id))

    def _deploy(self, model: Checkpoint) -> None:
        self._deployed[model.model] = model
        self.driver.tell(ModelDeployed(model, self._slots))

    def _delete(self, model: Checkpoint) -> None:
        del self._deployed[model.model]
        self.driver.tell(ModelDeleted(model.model))
