"""Calls of the commands inside the process of the test."""

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
    """Set the command line for a block; Hydra reads it from `sys.argv`."""
    before = sys.argv
    sys.argv = ["command", *words]
    try:
        yield
    finally:
        sys.argv = before


def called(command: Callable[[], int], *words: str) -> int:
    """Call a command with arguments; return its exit code."""
    with arguments(*words):
        return command()


def small_run(folder: Path, *overrides: str) -> Path:
    """Make a small run, which must succeed; return its folder."""
    assert called(run.main, *SMALL, *overrides, f"out={folder}") == 0
    return folder


def small_comparison(folder: Path, *overrides: str) -> int:
    """Make a small comparison of two policies in this process; return the exit code."""
    base = ("policies=[serverless,serverlessllm]", "workers=1", f"out={folder}")
    return called(compare.main, *SMALL, *base, *overrides)
