"""Where checkpoints lie at the start: models in order of popularity, servers filled in turn."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from experiments.config.models import PlacementRule
from sllmcore.types import Residency, StorageTier


@dataclass(frozen=True, slots=True)
class Shelf:
    """The room of one tier of one server."""

    server_id: str
    size_bytes: int


def placed(
    rule: PlacementRule,
    tier: StorageTier,
    size_bytes: Mapping[str, int],
    shelves: Sequence[Shelf],
) -> dict[str, tuple[Residency, ...]]:
    """What a tier of each server holds, by server.

    Args:
        size_bytes: Of every model, the most popular first.
    """
    content: dict[str, list[str]] = {shelf.server_id: [] for shelf in shelves}
    free_bytes = {shelf.server_id: shelf.size_bytes for shelf in shelves}
    for model, server_ids in _wishes(rule, size_bytes, shelves):
        for server_id in server_ids:
            if size_bytes[model] <= free_bytes[server_id] and model not in content[server_id]:
                content[server_id].append(model)
                free_bytes[server_id] -= size_bytes[model]
                break
    return {
        server_id: tuple(Residency(tier, model, size_bytes[model]) for model in models)
        for server_id, models in content.items()
    }


def _wishes(
    rule: PlacementRule, models: Iterable[str], shelves: Sequence[Shelf]
) -> Iterator[tuple[str, Sequence[str]]]:
    """Models, each with the servers that are tried for one copy of it, in turn."""
    server_ids = [shelf.server_id for shelf in shelves]
    if rule.kind == "everywhere":
        yield from ((model, [server_id]) for model in models for server_id in server_ids)
    if rule.kind == "round_robin":
        start = 0
        for _ in range(rule.replicas or len(server_ids)):
            for model in models:
                yield model, server_ids[start:] + server_ids[:start]
                start = (start + 1) % len(server_ids)
