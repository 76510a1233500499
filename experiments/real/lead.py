"""A leader with a policy given in full, unlike `sllmreal.processes.leader`, which takes a name.

python -m experiments.real.lead --home DIRECTORY --policy FILE

The file holds the first line of the journal that the leader will write.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sllmcore.build import PolicySettings
from sllmcore.journal import JournalReader, from_plain
from sllmcore.plugins import PLUGINS
from sllmreal.control.home import opened_home
from sllmreal.leader.leader import LeaderSettings
from sllmreal.processes.leader import lead
from sllmreal.processes.run import run_process
from sllmreal.store.sqlite import SqliteStore


async def _main(arguments: argparse.Namespace) -> None:
    PLUGINS.allow(arguments.allow)
    header = JournalReader([arguments.policy.read_text()])
    policy: PolicySettings = from_plain(PolicySettings, header.policy)
    home = opened_home(arguments.home)
    store = await SqliteStore.open(home.store)
    try:
        settings = LeaderSettings(policy, header.seed, compaction=None)  # the journal stays whole
        await lead(home, store, settings)
    finally:
        await store.close()


def main(argv: Sequence[str] | None = None) -> int:
    """0 when told to stop; 1 when the leadership or the store was lost; 2 for a bad file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the cluster's directory")
    parser.add_argument("--policy", type=Path, required=True, help="a journal's first line")
    parser.add_argument(
        "--allow", nargs="*", default=[], metavar="MODULE:NAME", help="may be imported"
    )
    return run_process("leader", _main(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
