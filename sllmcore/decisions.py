"""Decisions: what a scheduler can answer for one request."""

from dataclasses import dataclass

from sllmcore.types import MigrationPlan, Placement


@dataclass(frozen=True, slots=True)
class Start:
    """Run on an instance with a free slot. The instance may still be loading."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Launch an instance on GPUs that are free or held by idle instances; those are stopped."""

    placement: Placement


@dataclass(frozen=True, slots=True)
class MigrateThenLaunch:
    """Migrate the requests of other instances away, then launch an instance on their GPUs."""

    placement: Placement
    plans: tuple[MigrationPlan, ...]


@dataclass(frozen=True, slots=True)
class PreemptThenLaunch:
    """Stop the requests of other instances, which restart later, and launch on their GPUs."""

    placement: Placement
    victim_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WaitForServers:
    """Ask again when GPUs of one of these servers become available; (): of any server."""

    server_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WaitForGPUs:
    """Ask again when GPUs become available: no server has or can free enough of them.

    The controller applies this to every cold model that needs as many GPUs or more.
    """


@dataclass(frozen=True, slots=True)
class Refuse:
    """Reject the request: it can never run in this cluster."""

    reason: str


@dataclass(frozen=True, slots=True)
class Prewarm:
    """Launch an instance before demand, on GPUs that are free or held by idle instances."""

    model: str
    placement: Placement


Decision = (
    Start | Launch | MigrateThenLaunch | PreemptThenLaunch | WaitForServers | WaitForGPUs | Refuse
)
