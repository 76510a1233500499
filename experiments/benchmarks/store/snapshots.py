"""Time a leader's snapshot, and its use by a new leader.

    python -m experiments.benchmarks.store.snapshots                     five rounds for each policy

A leader of 100 models and 8 servers of 8 GPUs, with 500 open requests, has served 20,000 requests.
Measured are the time that a snapshot blocks its event loop, the size of the snapshot, and the time
of the next leader to read it and to replay the entries after it. Writes snapshots.json into --out.
"""

import argparse
import json
import random
import sys
import time
from collections import deque
from pathlib import Path
from statistics import median

from experiments.simulation.environment import Stopwatch, environment
from sllmcore.build import POLICIES, PolicySettings, build_controller
from sllmcore.commands import LaunchInstance, StartRequest
from sllmcore.events import (
    Event,
    InferenceFinished,
    LoadFinished,
    ModelDeployed,
    RequestArrived,
    ServerJoined,
)
from sllmcore.journal import JournalReader, entry_line, header_line
from sllmcore.types import Request, ServerSpec, StorageTier
from sllmreal.control.deployment import ModelDeployment
from sllmreal.leader.control_loop import Compaction
from sllmreal.leader.log_records import JOINED, LogRecord, ReportId, decoded, encoded
from sllmreal.leader.peers import PeerTable
from sllmreal.leader.state import LeaderState
from sllmreal.leader.state_snapshot import pickled, unpickled

NUM_MODELS = 100
NUM_SERVERS = 8
GPUS_PER_SERVER = 8
NUM_OPEN = 500
NUM_SERVED = 20_000
SLOTS = 8


class Busy:
    """A leader's state under load, and the records that led to it."""

    def __init__(self, policy: str) -> None:
        self.settings = PolicySettings(name=policy)
        self.state = empty_state(self.settings)
        self.records: list[str] = []
        self._now_s = 0.0
        self._num_reports = 0
        self._rng = random.Random(0)  # noqa: S311 - a load, not a secret
        self._running: deque[StartRequest] = deque()
        for number in range(NUM_MODELS):
            spec = ModelDeployment(
                name=f"model-{number:03}",
                source=f"/m{number}",
                size_bytes=10**9,
                context_tokens=4096,
                created_at_s=0.0,
                num_slots=SLOTS,
            )
            self._tell(ModelDeployed(spec.checkpoint, SLOTS), LogRecord("", model=spec))
        for number in range(NUM_SERVERS):
            spec_of = ServerSpec(
                id=f"s{number}",
                num_gpus=GPUS_PER_SERVER,
                gpu_memory_bytes=10**10,
                dram_bytes=10**11,
                ssd_bytes=10**12,
                remote_bytes_per_s=1e9,
                ssd_bytes_per_s=5e9,
                dram_bytes_per_s=2e10,
            )
            origin = ReportId(spec_of.id, "first", JOINED)
            self._tell(ServerJoined(spec_of), LogRecord("", origin, address=f"tcp:{spec_of.id}:1"))

    def serve(self, num_requests: int) -> None:
        """Let `num_requests` arrive; the oldest running request ends when there are too many."""
        for _ in range(num_requests):
            self._now_s += 0.01
            number = self.state.num_events
            model = f"model-{min(NUM_MODELS - 1, int(self._rng.expovariate(0.05))):03}"
            self._report(RequestArrived(Request(f"cmpl-{number:024}-0", model, self._now_s, 100)))
            while self._running and len(self.state.controller.cluster.request_states) > NUM_OPEN:
                run = self._running.popleft()
                self._report(InferenceFinished(run.request_id, run.instance_id, 50, self._now_s))

    def _report(self, event: Event) -> None:
        self._num_reports += 1
        self._tell(event, LogRecord("", ReportId("gateway", "first", self._num_reports)))

    def _tell(self, event: Event, record: LogRecord) -> None:
        effects, commands = self.state.handle(event, self._now_s, record)
        line = entry_line(self._now_s, event, commands)
        self.records.append(encoded(LogRecord(line, record.origin, record.model, record.address)))
        self.state.carry_out(effects)
        for peer in self.state.peer_table.peers.values():
            peer.outbox.clear()
        for command in commands:
            if isinstance(command, StartRequest):
                self._running.append(command)
            elif isinstance(command, LaunchInstance):
                finished = LoadFinished(
                    instance_id=command.instance_id,
                    source=StorageTier.REMOTE,
                    num_bytes=10**9,
                    transfer_s=1.0,
                    startup_s=0.5,
                )
                self._report(finished)


def empty_state(settings: PolicySettings) -> LeaderState:
    """Return the initial state of a leader."""
    rng = random.Random(0)  # noqa: S311 - a policy's chance, not a secret
    return LeaderState(build_controller(settings, rng), PeerTable())


def measured(policy: str) -> dict[str, float | str | int]:
    """Measure one round."""
    busy = Busy(policy)
    busy.serve(NUM_SERVED)
    began_s = time.perf_counter()
    value = pickled(busy.state.saved(()))
    saved_s = time.perf_counter() - began_s
    began_s = time.perf_counter()
    state = empty_state(busy.settings)
    state.restore(unpickled(value))
    restored_s = time.perf_counter() - began_s
    first = len(busy.records)
    busy.serve(Compaction().every_entries // 2)
    lines = busy.records[first:]
    began_s = time.perf_counter()
    replay(state, lines, header_line(busy.settings, 0))
    replayed_s = time.perf_counter() - began_s
    return {
        "policy": policy,
        "open_requests": len(busy.state.controller.cluster.request_states),
        "instances": len(busy.state.controller.cluster.instances),
        "snapshot_bytes": len(value),
        "snapshot_s": saved_s,
        "restore_s": restored_s,
        "entries_per_s": len(lines) / replayed_s,
        "entry_bytes": sum(map(len, lines)) / len(lines),
    }


def replay(state: LeaderState, lines: list[str], header: str) -> None:
    """Restore as a new leader does. Raises AssertionError if its decisions differ."""
    reader = JournalReader([header])
    for line in lines:
        record = decoded(line, LogRecord)
        entry = reader.entry(record.line, 2)
        effects, commands = state.handle(entry.event, entry.now_s, record)
        assert tuple(commands) == entry.commands, entry
        state.carry_out(effects)


def main() -> int:
    """Run the benchmark; return 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("outputs/snapshots"))
    options, stopwatch = parser.parse_args(), Stopwatch()
    rows = [measured(policy) for _ in range(options.rounds) for policy in options.policies]
    options.out.mkdir(parents=True, exist_ok=True)
    result = {"environment": environment(stopwatch), "rows": rows}
    (options.out / "snapshots.json").write_text(json.dumps(result, indent=1) + "\n")
    for policy in options.policies:
        print(_line(policy, [row for row in rows if row["policy"] == policy]))
    print(options.out)
    return 0


def _line(policy: str, rows: list[dict[str, float | str | int]]) -> str:
    def middle(name: str) -> float:
        return median(float(row[name]) for row in rows)

    longest_s = max(float(row["snapshot_s"]) for row in rows)
    return (
        f"{policy:14} {middle('snapshot_s') * 1e3:5.1f} ms (longest {longest_s * 1e3:.1f}), "
        f"{middle('snapshot_bytes') / 1e3:.0f} kB; restored in {middle('restore_s') * 1e3:.1f} ms, "
        f"{middle('entries_per_s'):,.0f} entries/s of {middle('entry_bytes'):.0f} bytes replayed"
    )


if __name__ == "__main__":
    sys.exit(main())
