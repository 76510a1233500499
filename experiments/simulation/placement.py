"""The placement of checkpoints in a tier at the start of a run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from experiments.config.models import PlacementRule
from sllmcore.types import Residency, StorageTier


@dataclass(frozen=True, slots=True)
class TierCapacity:
    """The capacity of a tier of a server."""

    server_id: str
    size_bytes: int


def placed(
    rule: PlacementRule,
    tier: StorageTier,
    size_bytes: Mapping[str, int],
    capacities: Sequence[TierCapacity],
) -> dict[str, tuple[Residency, ...]]:
    """Return the content of a tier, by server.

    Args:
        size_bytes: Size of every model, the most popular first.
    """
    content: dict[str, list[str]] = {each.server_id: [] for each in capacities}
    free_bytes = {each.server_id: each.size_bytes for each in capacities}
    for model, server_ids in _candidates(rule, size_bytes, list(free_bytes)):
        for server_id in server_ids:
            if size_bytes[model] <= free_bytes[server_id] and model not in content[server_id]:
                content[server_id].append(model)
                free_bytes[server_id] -= size_bytes[model]
                break
    return {
        server_id: tuple(Residency(tier, model, size_bytes[model]) for model in models)
        for server_id, models in content.items()
    }


def _candidates(
    rule: PlacementRule, models: Iterable[str], server_ids: list[str]
) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield a model for each copy, with the servers to try in turn."""
    if rule.kind == "everywhere":
        yield from ((model, [server_id]) for model in models for server_id in server_ids)
    if rule.kind == "round_robin":
        start = 0
        for _ in range(rule.replicas or len(server_ids)):
            for model in models:
                yield model, server_ids[start:] + server_ids[:start]
                start = (start + 1) % len(server_ids)
