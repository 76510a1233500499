"""The files of a run from a real cluster's journal, in the time of the workload.

The written journal has the cluster's own time, with which it replays. Tables and summary count from
the workload's start, as in a simulation; earlier events, such as joining servers, count as at 0 s.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.simulation.journal_file import written_journal
from experiments.simulation.parquet_file import order_of_arrival, order_of_launch, write_table
from experiments.simulation.run_folder import INSTANCES, JOURNAL, REQUESTS
from sllmcore.build import PolicySettings
from sllmcore.events import Event, InferenceFinished
from sllmcore.journal import JournalEntry, JournalReader
from sllmcore.metrics import Recorder, Summary


@dataclass(frozen=True, slots=True)
class ReplayTables:
    """The journal of a replay.

    Args:
        journal: The journal's lines, header first.
        start_s: The workload's 0 s in the cluster's time.
        end_s: The end of the replay in the cluster's time.
    """

    journal: tuple[str, ...]
    start_s: float
    end_s: float

    def entries(self) -> Iterator[JournalEntry]:
        """Return the entries until the end of the replay; later ones are the cluster's shutdown."""
        for entry in JournalReader(self.journal).entries():
            if entry.now_s <= self.end_s:
                yield entry


def write_played(played: ReplayTables, folder: Path, policy: PolicySettings, seed: int) -> Summary:
    """Write requests.parquet, instances.parquet and the journal; return the summary."""
    recorder, last_s = Recorder(), 0.0
    with written_journal(folder / JOURNAL, policy, seed) as journal:
        for entry in played.entries():
            journal.observe(entry.now_s, entry.event, entry.commands)
            last_s = max(0.0, entry.now_s - played.start_s)
            recorder.observe(last_s, _shifted(entry.event, played.start_s), entry.commands)
    summary = recorder.close(last_s)
    write_table(recorder.requests, folder / REQUESTS, order_of_arrival(recorder.requests))
    write_table(recorder.instances, folder / INSTANCES, order_of_launch(recorder.instances))
    return summary


def _shifted(event: Event, start_s: float) -> Event:
    if isinstance(event, InferenceFinished):
        return replace(event, first_token_at_s=event.first_token_at_s - start_s)
    return event
