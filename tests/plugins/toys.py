"""Toy plug-ins: one file each outside of the clone, and distributions that name them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60.0

ENGINE = '''
"""An engine without weights that generates one token again and again."""

from dataclasses import dataclass

from sllmcore.errors import UsageError
from sllmreal.engine.kind import EngineKind
from sllmreal.engine.model import Chosen
from sllmreal.engine.protocol import Capabilities
from sllmreal.engine.slots import SlotEngine


@dataclass(frozen=True)
class ToySettings:
    token: int = 1

    def __post_init__(self):
        if self.token < 0:
            raise UsageError(f"token must not be negative, got {self.token}")


class ToyModel:
    num_layers, model_s = 1, 0.0

    def __init__(self, model, settings):
        self.capabilities = Capabilities(
            model.name, model.context_tokens, model.num_slots, 100, False, 0, ""
        )
        self.token = settings.token

    def admit(self, sequence): pass
    def forget(self, sequence): pass
    def prefill(self, rows): return [Chosen(self.token) if row.sample else None for row in rows]
    def decode(self, sequences): return [Chosen(self.token) for _ in sequences]
    def close(self): pass


def make(model, settings):
    return SlotEngine(ToyModel(model, settings), prefill_chunk_tokens=64)


ENGINE = EngineKind(ToySettings, make, needs_weights=False)
'''

STORE = '''
"""SQLite at the place that the URL names, or refused if there is none."""

from pathlib import Path

from sllmcore.errors import UsageError
from sllmreal.store.registry import StoreKind
from sllmreal.store.sqlite import SqliteStore


async def opened(place, file):
    return await SqliteStore.open(Path(place))


def check(place):
    if not place:
        raise UsageError("toy needs a place: toy:FILE")


STORE = StoreKind(opened, "toy:FILE", check)
'''

TRACE = '''
"""Rows `seconds model input output`, after a first line `toy trace`."""

from traces.rows import RowBatch, TraceRow
from traces.trace_format import TraceFormat


def recognises(source, line):
    return line == "toy trace"


def batches(source, clock):
    for lines in source.blocks():
        rows = [line.split() for line in lines if line.strip() != "toy trace"]
        numbers = range(source.line_number - len(rows) + 1, source.line_number + 1)
        yield RowBatch([TraceRow(float(a), b, int(c), int(d)) for a, b, c, d in rows], numbers)


FORMAT = TraceFormat(batches=batches, recognises=recognises)
'''

POLICY = '''
"""Locality with a bounded number of candidates, a residency and a prewarmer of its own."""

from dataclasses import dataclass

from sllmcore.demand import Demand
from sllmcore.policies import Policy, PrewarmerKind, ResidencyKind
from sllmcore.residency import LruResidency
from sllmcore.scheduling.locality import LocalityScheduler


@dataclass(frozen=True)
class ToySettings:
    max_candidates: int = 8  # shared with the built-in policies
    patience: float = 1.0


class ToyScheduler:
    def __init__(self, parts, settings=None):
        self.inner = LocalityScheduler(parts.estimator, parts.max_candidates)
        self.patience = settings.patience if settings else None

    def decide(self, request, cluster, now_s):
        return self.inner.decide(request, cluster, now_s)


@dataclass(frozen=True)
class KeepSettings:
    keep_s: float = 5.0


class ToyPrewarmer:
    def __init__(self):
        self.watcher = Demand(1.0, 10.0, 1)

    def advance(self, now_s): self.watcher.advance(now_s)
    next_wakeup_s = None
    def plan(self, cluster, now_s): return []


@dataclass(frozen=True)
class NoSettings:
    pass


POLICY = Policy(ToySettings, lambda settings, parts: ToyScheduler(parts, settings))
RESIDENCY = ResidencyKind(KeepSettings, lambda settings: LruResidency(settings.keep_s))
PREWARMER = PrewarmerKind(NoSettings, lambda settings, parts: ToyPrewarmer())
'''

FILES = {"toy_engine": ENGINE, "toy_store": STORE, "toy_trace": TRACE, "toy_policy": POLICY}
ENTRY_POINTS = """
[sllm.engines]
toy = toy_engine:ENGINE
[sllm.stores]
toy = toy_store:STORE
[sllm.traces]
toy = toy_trace:FORMAT
[sllm.policies]
toy = toy_policy:POLICY
broken = toy_policy:NOT_THERE
unfit = toy_policy:RESIDENCY
[sllm.residency]
toy = toy_policy:RESIDENCY
[sllm.prewarming]
toy = toy_policy:PREWARMER
"""


def install(folder: Path, *, entry_points: str = ENTRY_POINTS) -> Path:
    """Write the toy plug-ins, and a distribution with entry points; return the folder."""
    folder.mkdir(exist_ok=True)
    for module, text in FILES.items():
        (folder / f"{module}.py").write_text(text)
    about = folder / "toys-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entry_points)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which the plug-ins of a folder are installed."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}


def called(folder: Path, *words: str, code: int = 0) -> str:
    """Run `python -m WORDS` with the plug-ins of a folder; return stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        env=environment(folder),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr
