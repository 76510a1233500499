"""What a scheduler can decide for one request."""

from dataclasses import dataclass

from sllmcore.types import MigrationPlan, Placement


@dataclass(frozen=True, slots=True)
class Start:
    """Run on an instance that has a free slot (and may still be loading)."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Load the model onto GPUs that are free, or held by idle instances, which then go."""

    placement: Placement


@dataclass(frozen=True, slots=True)
class MigrateThenLaunch:
    """Move the inferences of other instances away, then load the model onto their GPUs."""

    placement: Placement
    plans: tuple[MigrationPlan, ...]


@dataclass(frozen=True, slots=True)
class PreemptThenLaunch:
    """Stop the inferences of other instances, to be run again, and load onto their GPUs."""

    placement: Placement
    victim_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WaitForServers:
    """Ask again when GPUs of one of these servers become free, (): of any server."""

    server_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WaitForGPUs:
    """No server can make room. The same holds for every cold model of as many GPUs or more."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """This request can never run here."""

    reason: str


@dataclass(frozen=True, slots=True)
class Prewarm:
    """Load a model that nobody waits for, onto GPUs that are free or held by idle instances."""

    model: str
    placement: Placement


Decision = (
    Start | Launch | MigrateThenLaunch | PreemptThenLaunch | WaitForServers | WaitForGPUs | Refuse
)
