"""Build a controller from plain settings, for a simulation, a real cluster or a replay."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from sllmcore.controller import Controller, ControllerSettings
from sllmcore.errors import UsageError
from sllmcore.estimator import BandwidthEstimator
from sllmcore.migration_predictor import (
    LinearMigrationPredictor,
    MigrationProfile,
    QuadraticMigrationPredictor,
)
from sllmcore.plugins import PLUGINS
from sllmcore.policies import (
    BUILT_IN_POLICIES,
    BUILT_IN_PREWARMERS,
    BUILT_IN_RESIDENCIES,
    LRU,
    WARMSERVE,
    Policy,
    PolicyParts,
    PrewarmerKind,
    ResidencyKind,
    policy_of_scheduler,
)
from sllmcore.prewarming import PrewarmSettings
from sllmcore.protocols import MigrationTimePredictor, Prewarmer, RandomSource, ResidencyPolicy
from sllmcore.registry import Registry
from sllmcore.residency import LruResidency
from sllmcore.scheduling.hydraserve import SplitSettings
from sllmcore.typed_settings import (
    Setting,
    field_values,
    parsed_setting,
    setting_names,
    settings_of,
)
from sllmcore.types import UNWRITTEN_DEFAULT

POLICIES: Registry[Policy[Any]] = Registry(
    what="policy",
    group="sllm.policies",
    kind=Policy,
    built_in=BUILT_IN_POLICIES,
    source=PLUGINS,
    adapt=policy_of_scheduler,
)
RESIDENCIES: Registry[ResidencyKind[Any]] = Registry(
    what="residency",
    group="sllm.residency",
    kind=ResidencyKind,
    built_in=BUILT_IN_RESIDENCIES,
    source=PLUGINS,
)
PREWARMERS: Registry[PrewarmerKind[Any]] = Registry(
    what="prewarmer",
    group="sllm.prewarming",
    kind=PrewarmerKind,
    built_in=BUILT_IN_PREWARMERS,
    source=PLUGINS,
)
PREDICTORS: Mapping[
    str, Callable[[MigrationProfile, Mapping[str, MigrationProfile], float], MigrationTimePredictor]
] = {"linear": LinearMigrationPredictor, "quadratic": QuadraticMigrationPredictor}


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """A policy by name, with the settings of all its parts, as a journal's first line has them.

    A registered part has a dataclass of settings. Its fields get their values from the fields of
    the same names here, then from `settings`, `residency_settings` or `prewarmer_settings`.

    Args:
        name: A name in `POLICIES`.
        max_candidates: How many servers a decision looks at in each tier.
        max_room_servers: How many servers a decision examines for requests to migrate.
        max_preemptions: A request that was preempted so often is not preempted again (Shepherd*).
        estimator_smoothing: Weight of the newest load in the learnt bandwidth.
        expected_startup_s: First estimate of the phases of a cold start that move no bytes.
        predictor_smoothing: Weight of the newest sample in the learnt migration time.
        predictor: A name in `PREDICTORS`, which predict migration times.
        migration: First estimate of migration times, for models without a profile.
        migration_by_model: Profiles by model.
        splitting: How loads are split over servers, where the policy splits them.
        prewarming: Settings of WarmServe's prewarmer, which then prewarms under any policy; None:
            only the policy's own prewarmer does, if it has one.
        settings: Further settings of the policy.
        residency_policy: A name in `RESIDENCIES`; `residency` is of "lru".
        residency_settings: Further settings of that residency policy.
        prewarmer: A name in `PREWARMERS`; None: see `prewarming`.
        prewarmer_settings: Further settings of the prewarmer.
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
    settings: Mapping[str, Setting] = field(default_factory=dict, metadata=UNWRITTEN_DEFAULT)
    residency_policy: str = field(default=LRU, metadata=UNWRITTEN_DEFAULT)
    residency_settings: Mapping[str, Setting] = field(
        default_factory=dict, metadata=UNWRITTEN_DEFAULT
    )
    prewarmer: str | None = field(default=None, metadata=UNWRITTEN_DEFAULT)
    prewarmer_settings: Mapping[str, Setting] = field(
        default_factory=dict, metadata=UNWRITTEN_DEFAULT
    )

    @property
    def registered(self) -> Policy[Any]:
        """The registered policy. Raises UsageError if there is none of that name."""
        return POLICIES[self.name]

    @property
    def prewarmer_name(self) -> str | None:
        """The name of the prewarmer in use; None: instances are launched on demand only."""
        of_settings = None if self.prewarming is None else WARMSERVE
        return self.prewarmer or self.registered.prewarmer or of_settings

    @property
    def references(self) -> tuple[str, ...]:
        """The names of all registered parts; some may be references `module:name`."""
        return (self.name, self.residency_policy, *([self.prewarmer] if self.prewarmer else []))


def check_policy(name: str) -> None:
    """Refuse an unknown policy.

    Raises:
        UsageError: There is no policy of that name; the error lists those there are.
    """
    POLICIES[name]


def check_settings(policy: PolicySettings) -> None:
    """Refuse a policy that cannot be built.

    Raises:
        UsageError: A name or a setting is unknown, or a value is out of its range.
    """
    _own_settings(policy)
    built_residency(policy)
    _prewarmer_settings(policy)
    _make_predictor(policy)


def build_controller(settings: PolicySettings, rng: RandomSource) -> Controller:
    """Return a fresh controller. It learns of models and servers by events.

    Args:
        settings: The policy.
        rng: The randomness of a policy that draws lots; the same seed gives the same decisions.

    Raises:
        UsageError: See `check_settings`.
    """
    estimator = BandwidthEstimator(settings.estimator_smoothing, settings.expected_startup_s)
    parts = PolicyParts(
        estimator=estimator,
        predictor=_make_predictor(settings),
        rng=rng,
        migration=settings.migration,
        migration_by_model=settings.migration_by_model,
        max_candidates=settings.max_candidates,
    )
    return Controller(
        scheduler=settings.registered.make(_own_settings(settings), parts),
        estimator=estimator,
        predictor=parts.predictor,
        residency=built_residency(settings),
        settings=settings.controller,
        prewarmer=_prewarmer(settings, parts),
    )


def policy_packages() -> tuple[str, ...]:
    """Return the packages from outside that this process has loaded policies and their parts from.

    The objects of a controller may be of their classes, and its decisions depend on their code.
    """
    return PLUGINS.packages(POLICIES.group, RESIDENCIES.group, PREWARMERS.group)


def built_residency(policy: PolicySettings) -> ResidencyPolicy:
    """Return the residency policy. Raises UsageError, see `check_settings`."""
    kind = RESIDENCIES[policy.residency_policy]
    where = f"residency {policy.residency_policy}"
    base = _shared(kind.settings, policy.residency)
    return kind.make(settings_of(kind.settings, policy.residency_settings, where, base))


def with_settings(policy: PolicySettings, texts: Mapping[str, str]) -> PolicySettings:
    """Return a policy with settings of a command line, by names such as `residency.keep_alive_s`.

    The settings are the policy's own, and those that every policy has.

    Raises:
        UsageError: A name is unknown (the error lists the known ones), or a value has the wrong
            type or is out of its range.
    """
    where, kind = f"policy {policy.name}", policy.registered.settings
    own, shared = setting_names(kind), _shared_names()
    given: dict[str, Setting] = {}
    further = dict(policy.settings)
    for name, text in texts.items():
        if name not in own and name not in shared:
            listed = ", ".join((*own, *shared))
            raise UsageError(f"{where}: there is no setting {name!r}, known are {listed}")
        if name.partition(".")[0] in _FIELDS:
            given[name] = parsed_setting(PolicySettings, name, text, where)
        else:
            further[name] = parsed_setting(kind, name, text, where)
    changed = settings_of(
        PolicySettings, given, where, field_values(policy) | {"settings": further}
    )
    check_settings(changed)
    return changed


# Fields of `PolicySettings` that a policy has only if its own settings have them.
_OF_SOME_POLICIES = frozenset(
    {"max_candidates", "max_room_servers", "max_preemptions", "splitting"}
)
_FIELDS = frozenset(field.name for field in fields(PolicySettings))


def _shared_names() -> list[str]:
    """Return the names of settings that every policy has."""
    names = setting_names(PolicySettings)
    hidden = _OF_SOME_POLICIES | {"name"}
    return [name for name in names if name.partition(".")[0] not in hidden]


def _own_settings(policy: PolicySettings) -> Any:
    """Return the settings of the scheduler, in the type that its policy registers."""
    kind = policy.registered.settings
    base = _shared(kind, policy)
    return settings_of(kind, policy.settings, f"policy {policy.name}", base)


def _shared(kind: type[Any], source: object) -> dict[str, Any]:
    """Return the values of a dataclass's fields that another dataclass has as well."""
    values = field_values(source)
    return {one.name: values[one.name] for one in fields(kind) if one.name in values}


def _make_predictor(policy: PolicySettings) -> MigrationTimePredictor:
    if policy.predictor not in PREDICTORS:
        known = ", ".join(PREDICTORS)
        raise UsageError(f"unknown predictor {policy.predictor!r}, known are {known}")
    make = PREDICTORS[policy.predictor]
    return make(policy.migration, policy.migration_by_model, policy.predictor_smoothing)


def _prewarmer(policy: PolicySettings, parts: PolicyParts) -> Prewarmer | None:
    name = policy.prewarmer_name
    return None if name is None else PREWARMERS[name].make(_prewarmer_settings(policy), parts)


def _prewarmer_settings(policy: PolicySettings) -> Any:
    name = policy.prewarmer_name
    if name is None:
        return None
    kind = PREWARMERS[name].settings
    base = _shared(kind, policy.prewarming)
    return settings_of(kind, policy.prewarmer_settings, f"prewarmer {name}", base)
