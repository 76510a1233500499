"""What an owner says to hosts, about one request."""

from collections.abc import Sequence
from dataclasses import replace

from sllmreal.engine.protocol import SequenceSpec
from sllmreal.streams import messages as wire
from sllmreal.streams.messages import Epoch
from sllmreal.streams.owner_io import MoveOrder


class StreamMessages:
    """Messages about the streams of one request."""

    def __init__(self, spec: SequenceSpec) -> None:
        self._spec = spec
        self._request_id = spec.request_id

    def start(self, epoch: Epoch, output: Sequence[int]) -> wire.Start:
        return wire.Start(epoch, wire.Spec.of(replace(self._spec, output=tuple(output))))

    def stop(self, epoch: Epoch) -> wire.Stop:
        return wire.Stop(self._request_id, epoch)

    def poll(self, epoch: Epoch, have: int) -> wire.Poll:
        return wire.Poll(self._request_id, epoch, have)

    def prepare(self, epoch: Epoch, order: MoveOrder) -> wire.Prepare:
        return wire.Prepare(epoch, wire.Spec.of(replace(self._spec, output=())), order.terms)

    def migrate(self, epoch: Epoch, new_epoch: Epoch, order: MoveOrder) -> wire.Migrate:
        return wire.Migrate(self._request_id, epoch, new_epoch, order.address, order.terms)

    def commit(self, epoch: Epoch, have: int) -> wire.Commit:
        return wire.Commit(self._request_id, epoch, have)

    def stay(self, epoch: Epoch, new_epoch: Epoch) -> wire.Stay:
        return wire.Stay(self._request_id, epoch, new_epoch)
