"""Errors of traces: a wrong file or setting (TraceError), a failed download (FetchError)."""

from pathlib import Path

from sllmcore.errors import ClusterError, UsageError


class TraceError(UsageError):
    """A trace or workload that cannot be read or made as asked.

    Args:
        problem: The problem, in words.
        path, line, column, value: The place in a file and the wrong value, if known.
    """

    def __init__(
        self,
        problem: str,
        path: Path | str | None = None,
        line: int | None = None,
        column: str | None = None,
        value: str | None = None,
    ) -> None:
        self.problem = problem
        self.path = None if path is None else Path(path)
        self.line = line
        self.column = column
        self.value = value
        super().__init__(_sentence(problem, self.path, line, column, value))


class FetchError(ClusterError):
    """A failed download: no connection, a refusal, or bytes with a wrong length or digest."""


def _sentence(
    problem: str, path: Path | None, line: int | None, column: str | None, value: str | None
) -> str:
    place = "" if path is None else str(path)
    if line is not None:
        place += f":{line}"
    if column is not None:
        place += f", column {column!r}" if place else f"column {column!r}"
    text = f"{place}: {problem}" if place else problem
    if value is not None:
        shown = value if len(value) <= 60 else value[:57] + "..."
        text += f", got {shown!r}"
    return text
