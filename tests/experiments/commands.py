"""Runs the commands inside the test's process, as from a shell."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments import compare, run

# Two servers, seven models and thirty requests: a tenth of a second.
SMALL = (
    "cluster=small",
    "models=opt_few",
    "workload=poisson",
    "workload.max_requests=30",
)


@contextmanager
def arguments(*words: str) -> Iterator[None]:
    """The command line, for the length of a block; Hydra reads it from `sys.argv`."""
    before = sys.argv
    sys.argv = ["command", *words]
    try:
        yield
    finally:
        sys.argv = before


def called(command: Callable[[], int], *words: str) -> int:
    """The exit code of a command."""
    with arguments(*words):
        return command()


def small_run(folder: Path, *overrides: str) -> Path:
    """A small run that must succeed; returns its folder."""
    assert called(run.main, *SMALL, *overrides, f"out={folder}") == 0
    return folder


def small_comparison(folder: Path, *overrides: str) -> int:
    """A small comparison of two policies, in this process."""
    base = ("policies=[serverless,serverlessllm]", "workers=1", f"out={folder}")
    return called(compare.main, *SMALL, *base, *overrides)
