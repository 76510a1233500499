"""The parameters of each migration: its key, and the tokens that the destination recomputes."""

import logging
import secrets

from sllmcore.errors import ClusterError
from sllmcore.migration_strategy import StrategyChooser
from sllmreal.control.messages import StartMigration
from sllmreal.router.ports import HostConnections
from sllmreal.router.strategy import migration_facts
from sllmreal.streams.messages import MigrationParams
from sllmreal.streams.owner_io import MigrationSpec

_LOG = logging.getLogger(__name__)
MOVE_KEY_BYTES = 32


class MigrationPlanner:
    """Makes a MigrationSpec of each StartMigration."""

    def __init__(self, connections: HostConnections, chooser: StrategyChooser) -> None:
        self._connections = connections
        self._chooser = chooser

    def spec(self, message: StartMigration, num_context: int) -> MigrationSpec:
        """Return the spec of a migration of `num_context` tokens.

        Raises ClusterError if a HostOnline of its source or destination has not been received.
        """
        source = self._connections.online(message.source_id)
        destination = self._connections.online(message.destination_id)
        if source is None or destination is None:
            missing = message.source_id if source is None else message.destination_id
            raise ClusterError(f"no connection to the engine host of instance {missing}")
        facts = migration_facts(
            context_tokens=num_context,
            source=source.capabilities,
            destination=destination.capabilities,
            source_address=message.source_address,
            destination_address=message.destination_address,
        )
        replay_tokens = self._chooser.begin_migration(message.request_id, facts).replay_tokens
        _LOG.debug(
            "migration starts from instance %s to %s: %d of %d tokens are recomputed",
            message.source_id,
            message.destination_id,
            num_context if replay_tokens is None else replay_tokens,
            num_context,
            extra={"request": message.request_id, "move": message.move_id},
        )
        params = MigrationParams(
            secrets.token_bytes(MOVE_KEY_BYTES),
            source.capabilities.model,
            source.capabilities.kv_layout,
            replay_tokens,
        )
        return MigrationSpec(
            move_id=message.move_id,
            source_id=message.source_id,
            destination_id=message.destination_id,
            address=destination.address,
            params=params,
        )
