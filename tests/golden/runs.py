"""Golden runs: their outputs are committed as digests.

`python -m tests.golden.runs` rewrites digests.json, in a commit of its own. The digest of a journal
is that of its uncompressed lines. The table of requests has two digests, of its values and of its
file, because the file also depends on the version of pyarrow.
"""

import json
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import pyarrow
import pyarrow.parquet as pq

from experiments.composing import composed_run
from experiments.simulation.execute import run_into
from experiments.simulation.journal_file import journal_lines
from experiments.simulation.run_folder import JOURNAL, REQUESTS

Digests: TypeAlias = dict[str, str]

HERE = Path(__file__).parent
DIGESTS = HERE / "digests.json"
SMALL = ("cluster=small", "models=opt_few")

RUNS = {
    # arrivals and lengths from a file: only the simulator and the policy matter
    "file": (*SMALL, "workload=jobs", f"workload.path={HERE / 'jobs.jsonl'}"),
    # everything at once: generated bursts, slow phases, preemption, faults, cancellations
    "faults": (
        *SMALL,
        "workload=azure_like",
        "workload.max_requests=80",
        "workload.target_rps=0.7",
        "workload.patience_s=40",
        "policy=shepherd",
        "driver.phases=process",
        "driver.fault_horizon_s=120",
        "driver.faults.server_crash_every_s=60",
        "driver.faults.server_return_after_s=20",
        "driver.faults.engine_crash_every_s=60",
        "driver.faults.load_failure_every_s=60",
        "driver.faults.slow_disk_every_s=60",
        "driver.faults.link_loss_every_s=60",
        "driver.faults.controller_crash_every_s=40",
    ),
}


def digests_of(name: str, folder: Path) -> Digests:
    """Run one of `RUNS` into a folder and return its digests."""
    run_into(folder, composed_run([*RUNS[name], "seed=1"]))
    journal = sha256()
    for line in journal_lines(folder / JOURNAL):
        journal.update(f"{line}\n".encode())
    values = pq.read_table(folder / REQUESTS).to_pydict()
    return {
        "journal": journal.hexdigest(),
        "requests_values": sha256(repr(values).encode()).hexdigest(),
        f"requests_file_pyarrow_{pyarrow.__version__}": sha256(
            (folder / REQUESTS).read_bytes()
        ).hexdigest(),
    }


def committed() -> dict[str, Digests]:
    """Return the recorded digests."""
    digests: dict[str, Digests] = json.loads(DIGESTS.read_text())
    return digests


def record() -> None:
    """Write the digests of all runs."""
    with tempfile.TemporaryDirectory() as folder:
        digests = {name: digests_of(name, Path(folder) / name) for name in RUNS}
    DIGESTS.write_text(json.dumps(digests, indent=2) + "\n")


if __name__ == "__main__":
    record()
