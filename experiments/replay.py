"""`python -m experiments.replay RUN`: feed a journal's events to a fresh controller and compare."""

import argparse
import json
import sys
from pathlib import Path

from experiments.simulation.files import JOURNAL
from experiments.simulation.journal_file import journal_lines
from sllmcore.build import PolicySettings, build_controller
from sllmcore.errors import ControlError, UsageError
from sllmcore.journal import (
    Divergence,
    Entry,
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
2 the journal cannot be read"""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        "python -m experiments.replay",
        description="Replay a run's journal into a fresh controller: same events, same commands?",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run, or a journal file")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="MODULE:NAME",
        help="a policy's reference in the journal that may be imported",
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
        print(f"the replay broke off, it differs from the journal: {error}", file=sys.stderr)
        return FAILED


def replayed(path: Path) -> int:
    """Replay one file and print what came; returns the exit code.

    Raises:
        UsageError: There is no such file, or it is no journal.
        ControlError: The controller refuses an event, since it decided otherwise before.
    """
    if not path.is_file():
        raise UsageError(f"there is no journal {path}")
    reader = JournalReader(journal_lines(path))
    policy = _policy(reader)
    controller = build_controller(policy, policy_chance(reader.seed))
    counted = _Counted()
    divergence = replay(controller, map(counted.seen, reader.entries()))
    if divergence is not None:
        print(_told(divergence))
        return FAILED
    print(
        f"{path}: {counted.entries} events, {counted.commands} commands of policy "
        f"{policy.name}: 100 % identical"
    )
    return OK


def _policy(reader: JournalReader) -> PolicySettings:
    try:
        settings: PolicySettings = from_plain(PolicySettings, reader.policy)
    except (KeyError, TypeError, AttributeError) as error:
        raise JournalError(f"line 1, the header, holds no policy: {error!r}") from error
    return settings


class _Counted:
    """Counts the entries that pass."""

    def __init__(self) -> None:
        self.entries = self.commands = 0

    def seen(self, entry: Entry) -> Entry:
        self.entries += 1
        self.commands += len(entry.commands)
        return entry


def _told(divergence: Divergence) -> str:
    def shown(value: object) -> str:
        return f"{type(value).__name__} {json.dumps(to_plain(value))}"

    written = [f"  - {shown(command)}" for command in divergence.written] or ["  - nothing"]
    came = [f"  + {shown(command)}" for command in divergence.replayed] or ["  + nothing"]
    return "\n".join(
        (
            f"entry {divergence.number} (line {divergence.number + 1}) at {divergence.now_s} s "
            f"differs, after {shown(divergence.event)}",
            "written in the journal:",
            *written,
            "answered by the replay:",
            *came,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
