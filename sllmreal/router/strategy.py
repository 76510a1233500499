"""The facts of a migration between two engine hosts, from the capabilities that they announced."""

from sllmcore.migration_strategy import MigrationFacts
from sllmreal.engine.protocol import Capabilities


def migration_facts(
    context_tokens: int,
    source: Capabilities,
    destination: Capabilities,
    source_address: str,
    destination_address: str,
) -> MigrationFacts:
    """Return the inputs of the choice of a strategy.

    A KV cache can be copied if both engines export theirs and lay it out in the same way.

    Args:
        source_address: The address of the source's worker; likewise `destination_address`.
    """
    exported = source.exports_kv and destination.exports_kv
    can_copy = exported and source.kv_layout == destination.kv_layout
    return MigrationFacts(
        model=source.model,
        kv_bytes_per_token=source.kv_bytes_per_token if can_copy else 0,
        context_tokens=context_tokens,
        source_server=source_address,
        destination_server=destination_address,
    )
