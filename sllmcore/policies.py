"""Descriptors of policies, residencies and prewarmers, and those that come with the toolkit.

A descriptor holds what is registered together: the dataclass of the settings, the factory, and
traits. A setting that has the name of a field of `PolicySettings`, such as `max_candidates`, is
taken from there; others are in `PolicySettings.settings`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sllmcore.migration_predictor import MigrationProfile
from sllmcore.prewarming import PrewarmSettings, WarmServePrewarmer
from sllmcore.protocols import (
    LoadingTimeEstimator,
    MigrationTimePredictor,
    Prewarmer,
    RandomSource,
    ResidencyPolicy,
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

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class PolicyParts:
    """The parts of a control plane that its scheduler or prewarmer may use.

    Args:
        rng: The randomness of a policy that draws lots; a policy that draws none leaves it alone.
        migration: The profile of models without one of their own.
        migration_by_model: Profiles by model.
        max_candidates: How many servers a decision looks at in each tier.
    """

    estimator: LoadingTimeEstimator
    predictor: MigrationTimePredictor
    rng: RandomSource
    migration: MigrationProfile
    migration_by_model: Mapping[str, MigrationProfile]
    max_candidates: int


@dataclass(frozen=True, slots=True)
class NoSettings:
    """The settings of an item that has none."""


@dataclass(frozen=True, slots=True)
class Policy(Generic[S]):
    """A scheduler to be registered: entry point group `sllm.policies`.

    Args:
        settings: A frozen dataclass.
        make: Makes the scheduler.
        splits_loads: The scheduler splits loads over several servers, which real workers cannot.
        prewarmer: The registered prewarmer that belongs to the policy.
    """

    settings: type[S]
    make: Callable[[S, PolicyParts], Scheduler]
    splits_loads: bool = False
    prewarmer: str | None = None


@dataclass(frozen=True, slots=True)
class ResidencyKind(Generic[S]):
    """A residency policy to be registered: entry point group `sllm.residency`."""

    settings: type[S]
    make: Callable[[S], ResidencyPolicy]


@dataclass(frozen=True, slots=True)
class PrewarmerKind(Generic[S]):
    """A prewarmer to be registered: entry point group `sllm.prewarming`."""

    settings: type[S]
    make: Callable[[S, PolicyParts], Prewarmer]


@dataclass(frozen=True, slots=True)
class CandidateSettings:
    """Settings of a policy that looks at candidates for a launch.

    Args:
        max_candidates: How many servers a decision looks at in each tier.
    """

    max_candidates: int = 8


@dataclass(frozen=True, slots=True)
class ReclaimSettings:
    """Settings of a policy that also migrates running requests to free GPUs.

    Args:
        max_candidates: How many servers a decision looks at in each tier.
        max_room_servers: How many servers a decision examines for requests to migrate.
    """

    max_candidates: int = 8
    max_room_servers: int = 4


@dataclass(frozen=True, slots=True)
class PreemptionSettings:
    """Settings of a policy that also preempts running requests.

    Args:
        max_candidates: How many servers a decision looks at in each tier.
        max_room_servers: How many servers a decision examines for requests to preempt.
        max_preemptions: A request that was preempted so often is not preempted again (Shepherd*).
    """

    max_candidates: int = 8
    max_room_servers: int = 4
    max_preemptions: int = 3


@dataclass(frozen=True, slots=True)
class SplittingSettings:
    """Settings of a policy that splits loads over servers.

    Args:
        max_candidates: How many servers a decision looks at in each tier.
    """

    max_candidates: int = 8
    splitting: SplitSettings = field(default_factory=SplitSettings)


def _search(
    settings: ReclaimSettings | PreemptionSettings, parts: PolicyParts, may_migrate: MayMigrate
) -> StartupTimeSearch:
    launches = LaunchSearch(parts.estimator, settings.max_candidates)
    rooms = ReclaimSearch(launches, parts.predictor, settings.max_room_servers, may_migrate)
    return StartupTimeSearch(launches, rooms)


def _serverlessllm(settings: ReclaimSettings, parts: PolicyParts) -> Scheduler:
    return ServerlessLLMScheduler(_search(settings, parts, rested))


def _shepherd(settings: PreemptionSettings, parts: PolicyParts) -> Scheduler:
    return ShepherdScheduler(_search(settings, parts, PreemptedLess(settings.max_preemptions)))


def _serverless(settings: CandidateSettings, parts: PolicyParts) -> Scheduler:
    return ServerlessScheduler(parts.estimator, parts.rng, settings.max_candidates)


def _availability(settings: CandidateSettings, parts: PolicyParts) -> Scheduler:
    return AvailabilityScheduler(parts.estimator, settings.max_candidates)


def _locality(settings: CandidateSettings, parts: PolicyParts) -> Scheduler:
    return LocalityScheduler(parts.estimator, settings.max_candidates)


def _warmserve(settings: CandidateSettings, parts: PolicyParts) -> Scheduler:
    launches = LaunchSearch(parts.estimator, settings.max_candidates)
    return SoonestScheduler(StartupTimeSearch(launches, None))


def _hydraserve(settings: SplittingSettings, parts: PolicyParts) -> Scheduler:
    launches = LaunchSearch(parts.estimator, settings.max_candidates)
    return HydraServeScheduler(
        launches, settings.splitting, parts.migration, parts.migration_by_model
    )


def _prewarmed_by_warmserve(settings: PrewarmSettings, parts: PolicyParts) -> Prewarmer:
    return WarmServePrewarmer(settings, parts.estimator, parts.max_candidates)


def _as_is(settings: LruResidency) -> ResidencyPolicy:
    return settings


LRU = "lru"  # unless `PolicySettings.residency_policy` names another one
WARMSERVE = "warmserve"  # of `PolicySettings.prewarming`, unless `prewarmer` names another one

BUILT_IN_POLICIES: Mapping[str, Policy[Any]] = {
    "serverlessllm": Policy(ReclaimSettings, _serverlessllm),
    "shepherd": Policy(PreemptionSettings, _shepherd),
    "serverless": Policy(CandidateSettings, _serverless),
    "availability": Policy(CandidateSettings, _availability),
    "locality": Policy(CandidateSettings, _locality),
    "warmserve": Policy(CandidateSettings, _warmserve, prewarmer=WARMSERVE),
    "hydraserve": Policy(SplittingSettings, _hydraserve, splits_loads=True),
}
BUILT_IN_RESIDENCIES: Mapping[str, ResidencyKind[Any]] = {LRU: ResidencyKind(LruResidency, _as_is)}
BUILT_IN_PREWARMERS: Mapping[str, PrewarmerKind[Any]] = {
    WARMSERVE: PrewarmerKind(PrewarmSettings, _prewarmed_by_warmserve)
}


def policy_of_scheduler(found: object) -> Policy[Any] | None:
    """Return a policy of a scheduler class without settings, which is called with the parts."""
    if not callable(found):
        return None
    make: Callable[[PolicyParts], Scheduler] = found
    return Policy(NoSettings, lambda _, parts: make(parts))
