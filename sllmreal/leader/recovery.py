"""Recovery of a leader's state from the snapshot and the log behind it.

A leader continues a log that the same code wrote. Other code may decide differently on the same
events, so a leader takes no more than the deployed models from its log: it begins with a fresh
controller and an empty peer table, and the peers are reset.
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
    """A log that was read.

    Attributes:
        num_lines: The number of lines behind the snapshot.
        num_bytes: Their bytes.
        foreign: Another version of the code wrote the log; only its models were taken over.
        empty: There was no log.
    """

    num_lines: int = 0
    num_bytes: int = 0
    foreign: bool = False
    empty: bool = False


class Recovery:
    """Brings a state and a clock to the end of a log.

    Args:
        log: The log.
        state: A state that has handled no event.
        clock: The cluster's time.
        line: The journal's header, with the settings of the controller in `state`.
    """

    def __init__(self, log: EventLog, state: LeaderState, clock: ClusterClock, line: str) -> None:
        self._log = log
        self._state = state
        self._clock = clock
        self._line = line
        self._found = Recovered()

    async def run(self) -> Recovered:
        """Read the log.

        Raises:
            ClusterError: The log belongs to another policy, contains other decisions than this
                code makes, or is damaged.
        """
        value = await self._log.snapshot()
        lines = self._log.lines()
        if value is None:
            first = await anext(lines, None)
            if first is None:
                self._found.empty = True
                return self._found
            header, snapshot = decoded(first, LogHeader), None
        else:
            snapshot = decoded_snapshot(value)
            header = LogHeader(snapshot.line, snapshot.zero_at_s, snapshot.stamp)
        if not self._continues(header):
            await self._start_over(lines, header, snapshot)
            return self._found
        if snapshot is not None:
            self._state.restore(unpickled(snapshot.state))
        await self._replay(lines, header, 0.0 if snapshot is None else snapshot.now_s)
        return self._found

    def _continues(self, header: LogHeader) -> bool:
        """Return whether this code wrote the log. Raises ClusterError for another policy's."""
        if header.stamp != code_stamp():
            return False
        if header.line != self._line:
            raise ClusterError(f"the log belongs to another policy: {header.line[:200]}")
        return True

    async def _replay(self, lines: AsyncIterator[str], header: LogHeader, last_s: float) -> None:
        reader = JournalReader([self._line])
        async for line in lines:
            self._found.num_lines += 1
            self._found.num_bytes += len(line)
            last_s = self._replay_one(decoded(line, LogRecord), reader)
        self._clock.continue_from(header.zero_at_s, last_s)

    def _replay_one(self, record: LogRecord, reader: JournalReader) -> float:
        state = self._state
        entry = reader.entry(record.line, state.num_events + 2)
        effects, commands = state.handle(entry.event, entry.now_s, record)
        if tuple(commands) != entry.commands:
            raise ClusterError(
                f"entry {state.num_events} of the log has other commands than this code gives"
            )
        state.carry_out(effects)
        return entry.now_s

    async def _start_over(
        self, lines: AsyncIterator[str], header: LogHeader, snapshot: LogSnapshot | None
    ) -> None:
        self._found.foreign = True
        self._clock.continue_from(header.zero_at_s, 0.0)
        for model in await _deployed(lines, () if snapshot is None else snapshot.models):
            event = ModelDeployed(model.checkpoint, model.num_slots)
            self._state.handle(event, self._clock.now_s(), LogRecord("", model=model))
        value = snapshot_of(self._state, (), self._clock, self._line)
        await self._log.compact(value)


def snapshot_of(
    state: LeaderState, pending: tuple[Effects, ...], clock: ClusterClock, line: str
) -> bytes:
    """Return a snapshot of the state as it will be when `pending` has been carried out."""
    models = tuple(state.peer_table.deployed.values())
    snapshot = LogSnapshot(
        line=line,
        zero_at_s=clock.zero_at_s,
        now_s=clock.now_s(),
        stamp=code_stamp(),
        models=models,
        state=pickled(state.saved(pending)),
    )
    return encoded_snapshot(snapshot)


async def _deployed(
    lines: AsyncIterator[str], before: tuple[ModelDeployment, ...]
) -> tuple[ModelDeployment, ...]:
    """Return the models that are deployed at the end of a log that cannot be replayed.

    Args:
        lines: The lines behind the snapshot.
        before: The models that were deployed at the snapshot.
    """
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
