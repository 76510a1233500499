"""Command line and progress line of benchmarks and campaigns."""

import argparse
import sys
import time
from types import TracebackType
from typing import TextIO

_REFRESH_S = 0.2


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keep the lines of the description; show the default of each option."""


def command_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help shows `description` as written and the default of each option."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}", description=description, formatter_class=_HelpFormatter
    )


class ProgressLine:
    """A line on stderr that is rewritten in place and removed at the end of the context.

    Writes at most five times per second, and nothing if `stream` is not a terminal.
    """

    def __init__(self, unit: str, total: float, stream: TextIO | None = None) -> None:
        self._unit = unit
        self._total = total
        self._stream = stream or sys.stderr
        self._on_terminal = self._stream.isatty()
        self._next_at_s = 0.0

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._on_terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def show(self, done: float, note: str = "") -> None:
        """Show `done` of the total, and a note behind it."""
        now_s = time.monotonic()
        if not self._on_terminal or now_s < self._next_at_s:
            return
        self._next_at_s = now_s + _REFRESH_S
        separator = ", " if note else ""
        self._stream.write(f"\r\x1b[K{done:,}/{self._total:,} {self._unit}{separator}{note}")
        self._stream.flush()
