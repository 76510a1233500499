"""A worker with a server given in full, unlike `sllmreal.processes.worker`, which takes sizes.

python -m experiments.real.work --home DIRECTORY --server FILE --storage paced

The file holds the server's `ServerJoined` as a journal has it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from sllmcore.events import ServerJoined
from sllmcore.journal import from_plain
from sllmreal.control.home import opened_home
from sllmreal.processes.run import run_process
from sllmreal.processes.worker import work
from sllmreal.worker.paced import PacedStorage
from sllmreal.worker.process_options import ProcessOptions
from sllmreal.worker.storage import Storage


async def _main(arguments: argparse.Namespace) -> None:
    joined: ServerJoined = from_plain(ServerJoined, json.loads(arguments.server.read_text()))
    home, server = opened_home(arguments.home), joined.server
    storage: Storage
    if arguments.storage == "paced":
        storage, num_spares = PacedStorage(server, joined.resident), 0
    else:
        from sllmreal.worker.tiers import TierStorage  # imports torch

        storage, num_spares = TierStorage(server, home.ssd(server.id)), 1
    await work(home, server, storage, ProcessOptions(num_spares=num_spares))


def main(argv: Sequence[str] | None = None) -> int:
    """0 when told to stop; 1 when the machine is at fault, 2 for a bad file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the cluster's directory")
    parser.add_argument("--server", type=Path, required=True, help="what the server has")
    parser.add_argument("--storage", choices=("paced", "tiers"), required=True)
    return run_process("worker", _main(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
