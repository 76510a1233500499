"""A fault at every system call of a writer: `python -m tests.checkpoint.syscalls`.

A forked process writes a checkpoint while strace makes the n-th call of one kind fail, or kills the
process at that call: for every kind of file call of the writer and every n up to the last call.
Afterwards the target must be the whole old or the whole new checkpoint, and the new one if the
write returned. The next write must succeed and leave nothing beside its target.
"""

import argparse
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sllmcore.errors import SllmError
from tests.checkpoint.writers import WRITERS, Writer

FAULTS = ("error=EIO", "error=ENOSPC", "error=EINTR", "signal=SIGKILL")
_NO_FILE = frozenset(("mmap", "munmap", "mprotect", "madvise"))  # of memory, not of files
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(", re.MULTILINE)
_REFUSED, _BROKEN = 3, 4  # exit codes of a writer: after a typed error, after any other error
_PR_SET_PTRACER, _ANY = 0x59616D61, -1


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a write under strace, and the calls that strace recorded."""

    code: int  # negative: the signal that killed it
    calls: str

    @property
    def acked(self) -> bool:
        return self.code == 0

    @property
    def fault_fired(self) -> bool:
        return "INJECTED" in self.calls or self.code == -9


def why_not() -> str | None:
    """Return the reason that this machine cannot run the campaign; None if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    with tempfile.TemporaryDirectory() as directory:
        ended = _traced(_Nothing(), 0, ["-e", "trace=%desc"], Path(directory))
    return None if "close" in ended.calls else "this process may not be traced"


def fail_every_call(
    writer: Writer, faults: Sequence[str], directory: Path, only: Iterable[str] = ()
) -> Counter[str]:
    """Run the campaign for one writer and return the number of faults by kind of call.

    `only` lists kinds of calls; if empty, all kinds that the writer makes.
    """
    number = 1
    writer.prepare(number)
    writer.write(number)  # does imports and fills caches, so that only the writer's calls follow
    writer.prepare(number + 1)
    kinds = _kinds(writer, number + 1, directory)
    done: Counter[str] = Counter()
    number += 2
    for kind in sorted(kinds & set(only) if only else kinds):
        for fault in faults:
            at = 1
            while _survives(writer, number, f"{kind}:{fault}:when={at}", directory):
                done[kind] += 1
                number += 2
                at += 1
            number += 2
    return done


def _kinds(writer: Writer, number: int, directory: Path) -> set[str]:
    seen = _traced(writer, number, ["-f", "-e", "trace=%file,%desc"], directory)
    assert seen.acked, "the writer fails without any fault"
    return set(_CALL.findall(seen.calls)) - _NO_FILE


def _survives(writer: Writer, number: int, fault: str, directory: Path) -> bool:
    """Write `number` under the fault, then the next without; return whether the fault occurred."""
    writer.prepare(number)
    before = writer.found()
    kind = fault.partition(":")[0]
    options = ["-f", "-e", f"trace={kind}", "-e", f"inject={fault}"]
    ended = _traced(writer, number, options, directory)
    what = f"{writer.name}, {fault}"
    assert ended.code in (0, _REFUSED, -9), f"{what}: the error is not typed"
    found = writer.found()
    assert found in (before, number), f"{what}: {found} is neither {before} nor {number}"
    assert not ended.acked or found == number, f"{what}: acknowledged and lost"
    writer.prepare(number + 1)
    writer.write(number + 1)
    assert writer.found() == number + 1, f"{what}: the next write is lost"
    left = writer.leftovers()
    assert not left, f"{what}: left behind {left}"
    return ended.fault_fired


def _traced(writer: Writer, number: int, options: list[str], directory: Path) -> Ended:
    """Run one write in a forked process under strace."""
    log = directory / "strace.log"
    log.write_text("")
    attached, attach = os.pipe()
    child = os.fork()
    if child == 0:  # no call before the `try`: strace may be attached already
        _write_and_exit(writer, number, attached)
    os.close(attached)
    command = ["strace", "-p", str(child), "-o", str(log), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        strace.stderr.readline()  # "attached", or the reason that it is not
        os.write(attach, b".")
        os.close(attach)
        _, status = os.waitpid(child, 0)
        strace.stderr.read()
    return Ended(os.waitstatus_to_exitcode(status), log.read_text())


def _write_and_exit(writer: Writer, number: int, attached: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(_ANY), 0, 0, 0)
    code = _BROKEN
    try:
        with suppress(OSError):  # if the fault occurs at this call, the write runs without one
            os.read(attached, 1)  # until strace is attached
        writer.write(number)
        code = 0
    except SllmError:
        code = _REFUSED
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class _Nothing:
    """A writer of nothing, to test whether a forked process may be traced."""

    name = "nothing"

    def prepare(self, number: int) -> None:
        return

    def write(self, number: int) -> None:
        os.close(os.dup(0))

    def found(self) -> int | None:
        return None

    def leftovers(self) -> list[str]:
        return []


def main() -> int:
    """Run the campaign for the writers given; return 1 if this machine cannot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writers", nargs="+", default=list(WRITERS), choices=WRITERS)
    arguments = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(reason)
        return 1
    total = 0
    for name in arguments.writers:
        with tempfile.TemporaryDirectory() as directory:
            done = fail_every_call(WRITERS[name](Path(directory)), FAULTS, Path(directory))
        total += done.total()
        counts = ", ".join(f"{kind} {count}" for kind, count in sorted(done.items()))
        print(f"{name}: {done.total()} faults ({counts})", flush=True)
    print(f"{total} faults at {len(FAULTS)} kinds: 0 torn, 0 acknowledged lost, 0 left behind")
    return 0


if __name__ == "__main__":
    sys.exit(main())
