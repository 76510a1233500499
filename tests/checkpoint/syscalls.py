"""A fault at every system call of a writer: `python -m tests.checkpoint.syscalls`.

A fork writes a checkpoint while strace lets the n-th call of one kind fail, or kills the process as
it enters that call: for every kind of call on files that the writer makes, and every n until the
write ends without it. Afterwards what is published must be whole, the old or the new one, the new
one if the write said so, and the next write must succeed and leave nothing beside its target.
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
_REFUSED, _BROKEN = 3, 4  # exit codes of a writer: a typed error, any other one
_PR_SET_PTRACER, _ANY = 0x59616D61, -1


@dataclass(frozen=True, slots=True)
class Ended:
    """How a write under strace ended, and what strace saw."""

    code: int  # negative: the signal that killed it
    calls: str

    @property
    def acked(self) -> bool:
        return self.code == 0

    @property
    def fault_fired(self) -> bool:
        return "INJECTED" in self.calls or self.code == -9


def why_not() -> str | None:
    """Why this machine cannot run the campaign; None where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    with tempfile.TemporaryDirectory() as directory:
        ended = _traced(_Nothing(), 0, ["-e", "trace=%desc"], Path(directory))
    return None if "close" in ended.calls else "this process may not be traced"


def fail_every_call(
    writer: Writer, faults: Sequence[str], directory: Path, only: Iterable[str] = ()
) -> Counter[str]:
    """Assert all of the above for one writer; the faults injected, by kind of call.

    `only` names kinds of calls; empty, all that the writer makes are taken.
    """
    number = 1
    writer.prepare(number)
    writer.write(number)  # imports are done, caches filled: what follows are the writer's calls
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
    """Write `number` under the fault, then the next without; False when it did not strike."""
    writer.prepare(number)
    before = writer.found()
    kind = fault.partition(":")[0]
    options = ["-f", "-e", f"trace={kind}", "-e", f"inject={fault}"]
    ended = _traced(writer, number, options, directory)
    what = f"{writer.name}, {fault}"
    assert ended.code in (0, _REFUSED, -9), f"{what}: an error that is not typed"
    found = writer.found()
    assert found in (before, number), f"{what}: {found} is neither {before} nor {number}"
    assert not ended.acked or found == number, f"{what}: acknowledged, and lost"
    writer.prepare(number + 1)
    writer.write(number + 1)
    assert writer.found() == number + 1, f"{what}: the next write is lost"
    left = writer.leftovers()
    assert not left, f"{what}: left behind {left}"
    return ended.fault_fired


def _traced(writer: Writer, number: int, options: list[str], directory: Path) -> Ended:
    """Run one write in a fork under strace."""
    log = directory / "strace.log"
    log.write_text("")
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:  # makes no call before its guard: strace may be there already
        _write_and_exit(writer, number, told)
    os.close(told)
    command = ["strace", "-p", str(child), "-o", str(log), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        strace.stderr.readline()  # "attached", or why it may not
        os.write(tell, b".")
        os.close(tell)
        _, status = os.waitpid(child, 0)
        strace.stderr.read()
    return Ended(os.waitstatus_to_exitcode(status), log.read_text())


def _write_and_exit(writer: Writer, number: int, told: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(_ANY), 0, 0, 0)
    code = _BROKEN
    try:
        with suppress(OSError):  # where the fault strikes here already, the write goes unharmed
            os.read(told, 1)  # until strace is there
        writer.write(number)
        code = 0
    except SllmError:
        code = _REFUSED
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class _Nothing:
    """Writes nothing: to see whether a fork may be traced."""

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
