"""What an owner says to hosts, about one request."""

from collections.abc import Sequence
from dataclasses import replace

from sllmreal.engine.protocol import SequenceSpec
from sllmreal.streams import messages as wire
from sllmreal.streams.messages import Epoch
from sllmreal.streams.owner_io import MigrationOrder


class StreamMessages:
    """Messages about the streams of one request."""

    def __init__(self, spec: SequenceSpec) -> None:
        self._spec = spec
        self._request_id = spec.request_id

    def start(self, epoch: Epoch, output: Sequence[int]) -> wire.StartStream:
        return wire.StartStream(
            epoch, wire.PackedSpec.of(replace(self._spec, output=tuple(output)))
        )

    def stop(self, epoch: Epoch) -> wire.StopStream:
        return wire.StopStream(self._request_id, epoch)

    def poll(self, epoch: Epoch, have: int) -> wire.PollStream:
        return wire.PollStream(self._request_id, epoch, have)

    def prepare(self, epoch: Epoch, order: MigrationOrder) -> wire.PrepareStream:
        return wire.PrepareStream(
            epoch, wire.PackedSpec.of(replace(self._spec, output=())), order.terms
        )

    def migrate(self, epoch: Epoch, new_epoch: Epoch, order: MigrationOrder) -> wire.MigrateStream:
        return wire.MigrateStream(self._request_id, epoch, new_epoch, order.address, order.terms)

    def commit(self, epoch: Epoch, have: int) -> wire.CommitStream:
        return wire.CommitStream(self._request_id, epoch, have)

    def stay(self, epoch: Epoch, new_epoch: Epoch) -> wire.CancelMigration:
        return wire.CancelMigration(self._request_id, epoch, new_epoch)
