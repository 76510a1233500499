"""`python -m experiments.replay RUN`: feed a journal's events to a new controller and compare."""

import argparse
import json
import sys
from pathlib import Path

from experiments.simulation.journal_file import journal_lines
from experiments.simulation.run_folder import JOURNAL
from sllmcore.build import PolicySettings, build_controller
from sllmcore.errors import ControlError, UsageError
from sllmcore.journal import (
    Divergence,
    JournalEntry,
    JournalError,
    JournalReader,
    from_plain,
    replay,
    to_plain,
)
from sllmcore.plugins import PLUGINS
from sllmsim.simulate import policy_chance

OK, FAILED, USAGE = 0, 1, 2

_EXAMPLES = """\
examples:
  python -m experiments.replay outputs/2026-11-22/12-00-00-demo
  python -m experiments.replay journal.jsonl.zst

exit codes: 0 all commands are identical, 1 they differ (the first difference is printed),
2 the journal is missing or damaged"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        "python -m experiments.replay",
        description="Feed the events of a run's journal to a new controller, and check that it "
        "gives the same commands.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run, or its journal")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="MODULE:NAME",
        help="import this policy, which the journal names, from outside the toolkit",
    )
    options = parser.parse_args(arguments)
    path: Path = options.run
    PLUGINS.allow(options.allow)
    try:
        return replayed(path / JOURNAL if path.is_dir() else path)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except ControlError as error:
        print(f"error: the replay differs from the journal and stopped: {error}", file=sys.stderr)
        return FAILED


def replayed(path: Path) -> int:
    """Replay a journal, print the result, and return the exit code.

    Raises:
        UsageError: There is no such file, or it is not a journal.
        ControlError: The controller refuses an event, because its earlier commands differ.
    """
    if not path.is_file():
        raise UsageError(
            f"there is no journal {path}: give the folder of a run with driver.journal=true"
        )
    reader = JournalReader(journal_lines(path))
    policy = _policy(reader)
    controller = build_controller(policy, policy_chance(reader.seed))
    counts = _Counts()
    divergence = replay(controller, map(counts.add, reader.entries()))
    if divergence is not None:
        print(_divergence_text(divergence))
        return FAILED
    print(
        f"{path}: {counts.entries} events, {counts.commands} commands of policy "
        f"{policy.name}: 100 % identical"
    )
    return OK


def _policy(reader: JournalReader) -> PolicySettings:
    try:
        settings: PolicySettings = from_plain(PolicySettings, reader.policy)
    except (KeyError, TypeError, AttributeError) as error:
        raise JournalError(f"line 1, the header, holds no policy: {error!r}") from error
    return settings


class _Counts:
    """The numbers of entries and commands."""

    def __init__(self) -> None:
        self.entries = self.commands = 0

    def add(self, entry: JournalEntry) -> JournalEntry:
        """Count an entry and return it."""
        self.entries += 1
        self.commands += len(entry.commands)
        return entry


def _divergence_text(divergence: Divergence) -> str:
    def shown(value: object) -> str:
        return f"{type(value).__name__} {json.dumps(to_plain(value))}"

    written = [f"  - {shown(command)}" for command in divergence.written] or ["  - nothing"]
    replayed = [f"  + {shown(command)}" for command in divergence.replayed] or ["  + nothing"]
    return "\n".join(
        (
            f"entry {divergence.number} (line {divergence.number + 1}) at {divergence.now_s} s "
            f"differs, after {shown(divergence.event)}",
            "in the journal:",
            *written,
            "in the replay:",
            *replayed,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
