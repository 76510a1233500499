"""A controller from plain settings: the same for a simulation, a real cluster and a replay."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from sllmcore.controller import Controller, ControllerSettings
from sllmcore.errors import UsageError
from sllmcore.estimator import BandwidthEstimator
from sllmcore.migration_predictor import (
    LinearMigrationPredictor,
    MigrationProfile,
    QuadraticMigrationPredictor,
)
from sllmcore.prewarming import PrewarmSettings, WarmServePrewarmer
from sllmcore.protocols import (
    MigrationTimePredictor,
    Prewarmer,
    RandomSource,
    Scheduler,
)
from sllmcore.residency import LruResidency
from sllmcore.scheduling.availability import AvailabilityScheduler
from sllmcore.scheduling.hydraserve import HydraServeScheduler, SplitSettings
from sllmcore.scheduling.launch_search import LaunchSearch
from sllmcore.scheduling.locality import LocalityScheduler
from sllmcore.scheduling.reclaim_search import MayMigrate, PreemptedLess, ReclaimSearch, rested
from sllmcore.scheduling.serverless import ServerlessScheduler
from sllmcore.scheduling.serverlessllm import ServerlessLLMScheduler
from sllmcore.scheduling.shepherd import ShepherdScheduler
from sllmcore.scheduling.soonest import SoonestScheduler
from sllmcore.scheduling.startup_time import StartupTimeSearch
from sllmcore.types import UNWRITTEN_DEFAULT


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """A scheduler by name, with the estimator, predictor and residency it works with.

    Args:
        name: One of `POLICIES`.
        max_candidates: How many servers a decision looks at in each tier.
        max_room_servers: How many servers a decision examines for inferences to move.
        max_preemptions: An inference stopped so often is left alone (Shepherd*).
        estimator_smoothing: Weight of the newest load in the learnt bandwidth.
        expected_startup_s: First belief about the phases of a cold start that move no bytes.
        predictor_smoothing: Weight of the newest sample in the learnt migration time.
        predictor: One of `PREDICTORS`, of migration times.
        migration: First belief about migrations, of models without one of their own.
        migration_by_model: Profiled beliefs.
        splitting: How loads are split over servers, where the policy splits them.
        prewarming: Launch ahead of demand, under whatever policy; None: only if the policy's name
            asks for it (`PREWARMED`).
    """

    name: str = "serverlessllm"
    max_candidates: int = 8
    max_room_servers: int = 4
    max_preemptions: int = 3
    estimator_smoothing: float = 0.2
    expected_startup_s: float = 0.0
    predictor_smoothing: float = 0.1
    predictor: str = field(default="linear", metadata=UNWRITTEN_DEFAULT)
    migration: MigrationProfile = field(default_factory=MigrationProfile)
    migration_by_model: Mapping[str, MigrationProfile] = field(default_factory=dict)
    residency: LruResidency = field(default_factory=LruResidency)
    controller: ControllerSettings = field(default_factory=ControllerSettings)
    splitting: SplitSettings = field(default_factory=SplitSettings, metadata=UNWRITTEN_DEFAULT)
    prewarming: PrewarmSettings | None = field(default=None, metadata=UNWRITTEN_DEFAULT)


@dataclass(frozen=True, slots=True)
class _Parts:
    settings: PolicySettings
    estimator: BandwidthEstimator
    predictor: MigrationTimePredictor
    rng: RandomSource


def _search(parts: _Parts, may_migrate: MayMigrate) -> StartupTimeSearch:
    launches = LaunchSearch(parts.estimator, parts.settings.max_candidates)
    rooms = ReclaimSearch(launches, parts.predictor, parts.settings.max_room_servers, may_migrate)
    return StartupTimeSearch(launches, rooms)


def _serverlessllm(parts: _Parts) -> Scheduler:
    return ServerlessLLMScheduler(_search(parts, rested))


def _shepherd(parts: _Parts) -> Scheduler:
    return ShepherdScheduler(_search(parts, PreemptedLess(parts.settings.max_preemptions)))


def _serverless(parts: _Parts) -> Scheduler:
    return ServerlessScheduler(parts.estimator, parts.rng, parts.settings.max_candidates)


def _availability(parts: _Parts) -> Scheduler:
    return AvailabilityScheduler(parts.estimator, parts.settings.max_candidates)


def _locality(parts: _Parts) -> Scheduler:
    return LocalityScheduler(parts.estimator, parts.settings.max_candidates)


def _warmserve(parts: _Parts) -> Scheduler:
    launches = LaunchSearch(parts.estimator, parts.settings.max_candidates)
    return SoonestScheduler(StartupTimeSearch(launches, None))


def _hydraserve(parts: _Parts) -> Scheduler:
    settings = parts.settings
    launches = LaunchSearch(parts.estimator, settings.max_candidates)
    return HydraServeScheduler(
        launches, settings.splitting, settings.migration, settings.migration_by_model
    )


POLICIES: Mapping[str, Callable[[_Parts], Scheduler]] = {
    "serverlessllm": _serverlessllm,
    "shepherd": _shepherd,
    "serverless": _serverless,
    "availability": _availability,
    "locality": _locality,
    "warmserve": _warmserve,
    "hydraserve": _hydraserve,
}
PREDICTORS: Mapping[
    str, Callable[[MigrationProfile, Mapping[str, MigrationProfile], float], MigrationTimePredictor]
] = {"linear": LinearMigrationPredictor, "quadratic": QuadraticMigrationPredictor}
PREWARMED = frozenset({"warmserve"})  # policies that launch ahead of demand
SPLITTING = frozenset({"hydraserve"})  # policies that split loads over servers


def check_policy(name: str) -> None:
    """Refuse an unknown policy.

    Raises:
        UsageError: There is none of that name; the error lists those there are.
    """
    if name not in POLICIES:
        close = get_close_matches(name, POLICIES, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(f"unknown policy {name!r}, known are {', '.join(POLICIES)}{hint}")


def build_controller(settings: PolicySettings, rng: RandomSource) -> Controller:
    """A fresh controller. It learns of models and servers by events.

    Args:
        settings: What the policy is.
        rng: Where a policy that draws lots draws them; seeded alike, it decides alike.

    Raises:
        UsageError: The policy or its predictor is unknown.
    """
    check_policy(settings.name)
    if settings.predictor not in PREDICTORS:
        known = ", ".join(PREDICTORS)
        raise UsageError(f"unknown predictor {settings.predictor!r}, known are {known}")
    estimator = BandwidthEstimator(settings.estimator_smoothing, settings.expected_startup_s)
    predictor = PREDICTORS[settings.predictor](
        settings.migration, settings.migration_by_model, settings.predictor_smoothing
    )
    scheduler = POLICIES[settings.name](_Parts(settings, estimator, predictor, rng))
    prewarmer = _prewarmer(settings, estimator)
    return Controller(
        scheduler, estimator, predictor, settings.residency, settings.controller, prewarmer
    )


def launches_ahead(settings: PolicySettings) -> bool:
    """Whether a policy launches instances that nobody waits for."""
    return settings.prewarming is not None or settings.name in PREWARMED


def _prewarmer(settings: PolicySettings, estimator: BandwidthEstimator) -> Prewarmer | None:
    if not launches_ahead(settings):
        return None
    prewarming = settings.prewarming or PrewarmSettings()
    return WarmServePrewarmer(prewarming, estimator, settings.max_candidates)
