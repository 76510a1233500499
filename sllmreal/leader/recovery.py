"""A new leader's beginning: the snapshot, what the log has behind it, or a clean sheet.

The same code goes on where its predecessor was. Another version of the code may decide otherwise
than the log says, so it takes over no more than which models are deployed: it begins with a fresh
controller, and its peers, which it does not know, are reset.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sllmcore.errors import ClusterError
from sllmcore.events import ModelDeployed
from sllmcore.journal import JournalReader
from sllmreal.control.deployment import ModelDeployment
from sllmreal.leader.clock import ClusterClock
from sllmreal.leader.code_version import code_stamp
from sllmreal.leader.log_records import EventLog, LogHeader, LogRecord, decoded
from sllmreal.leader.state import Effects, LeaderState
from sllmreal.leader.state_snapshot import (
    LogSnapshot,
    decoded_snapshot,
    encoded_snapshot,
    pickled,
    unpickled,
)


@dataclass(slots=True)
class Recovered:
    """What was found. `foreign`: by another version of the code, and so it was dropped."""

    num_lines: int = 0
    num_bytes: int = 0
    foreign: bool = False
    empty: bool = False


class Recovery:
    """Brings a state and a clock to where a log ends.

    Args:
        line: The journal's header, of the controller that `state` has.
    """

    def __init__(self, log: EventLog, state: LeaderState, clock: ClusterClock, line: str) -> None:
        self._log = log
        self._state = state
        self._clock = clock
        self._line = line
        self._found = Recovered()

    async def run(self) -> Recovered:
        """Raises ClusterError where the log is another policy's, or decided otherwise than it would
        be here, or no log."""
        value = await self._log.snapshot()
        lines = self._log.lines()
        if value is None:
            first = await anext(lines, None)
            if first is None:
                self._found.empty = True
                return self._found
            began, snapshot = decoded(first, LogHeader), None
        else:
            snapshot = decoded_snapshot(value)
            began = LogHeader(snapshot.line, snapshot.zero_at_s, snapshot.stamp)
        if not self._continues(began):
            await self._begin_anew(lines, began, snapshot)
            return self._found
        if snapshot is not None:
            self._state.restore(unpickled(snapshot.state))
        await self._replay(lines, began, 0.0 if snapshot is None else snapshot.now_s)
        return self._found

    def _continues(self, began: LogHeader) -> bool:
        """Whether it was this code that wrote the log. ClusterError if under another policy."""
        if began.stamp != code_stamp():
            return False
        if began.line != self._line:
            raise ClusterError(f"the log belongs to another policy: {began.line[:200]}")
        return True

    async def _replay(self, lines: AsyncIterator[str], began: LogHeader, last_s: float) -> None:
        reader = JournalReader([self._line])
        async for line in lines:
            self._found.num_lines += 1
            self._found.num_bytes += len(line)
            last_s = self._replay_one(decoded(line, LogRecord), reader)
        self._clock.continue_from(began.zero_at_s, last_s)

    def _replay_one(self, record: LogRecord, reader: JournalReader) -> float:
        state = self._state
        entry = reader.entry(record.line, state.num_events + 2)
        effects, commands = state.handle(entry.event, entry.now_s, record)
        if tuple(commands) != entry.commands:
            raise ClusterError(f"entry {state.num_events} of the log is decided otherwise here")
        state.carry_out(effects)
        return entry.now_s

    async def _begin_anew(
        self, lines: AsyncIterator[str], began: LogHeader, snapshot: LogSnapshot | None
    ) -> None:
        self._found.foreign = True
        self._clock.continue_from(began.zero_at_s, 0.0)
        for model in await _deployed(lines, () if snapshot is None else snapshot.models):
            event = ModelDeployed(model.checkpoint, model.num_slots)
            self._state.handle(event, self._clock.now_s(), LogRecord("", model=model))
        value = snapshot_of(self._state, (), self._clock, self._line)
        await self._log.compact(value)


def snapshot_of(
    state: LeaderState, pending: tuple[Effects, ...], clock: ClusterClock, line: str
) -> bytes:
    """What stands for everything so far, as if what is `pending` had been carried out."""
    models = tuple(state.peer_table.deployed.values())
    snapshot = LogSnapshot(
        line, clock.zero_at_s, clock.now_s(), code_stamp(), models, pickled(state.saved(pending))
    )
    return encoded_snapshot(snapshot)


async def _deployed(
    lines: AsyncIterator[str], before: tuple[ModelDeployment, ...]
) -> tuple[ModelDeployment, ...]:
    """The models that are deployed where a log ends that cannot be replayed."""
    models = {model.name: model for model in before}
    async for line in lines:
        record = decoded(line, LogRecord)
        if record.model is not None:
            models[record.model.name] = record.model
        elif '"ModelDeleted"' in record.line:
            event = json.loads(record.line)["event"]
            if event["type"] == "ModelDeleted":
                models.pop(event["model"], None)
    return tuple(models.values())
