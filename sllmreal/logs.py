"""Logs of a cluster's processes: one handler on stderr, as text or as JSON lines.

    2026-12-01 10:00:00.123 WARNING leader.leader: peer lost: away for 2.0 s  server=s0 peer=s0

A record's ids come from `extra`, with the keys of `IDS`. The loggers of uvicorn, Ray and other
libraries keep their own handlers and levels.
"""

import argparse
import json
import logging
import sys
from dataclasses import dataclass
from datetime import UTC, datetime

LEVELS = ("debug", "info", "warning", "error")
IDS = ("request", "instance", "move", "server", "model", "peer")
_PACKAGE = "sllmreal"
# A module that runs as a process is called __main__; asyncio reports exceptions of forgotten tasks.
_LOGGERS = (_PACKAGE, "__main__", "asyncio")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Least level and form of the records that a process writes."""

    level: str
    as_json: bool


def configure(level: str, as_json: bool) -> None:
    """Write this process's records of `level` and above to stderr; a later call replaces it.

    Raises:
        ValueError: `level` is not one of `LEVELS`.
    """
    if level not in LEVELS:
        raise ValueError(f"a log level is one of {', '.join(LEVELS)}, got {level!r}")
    handler = _StderrHandler(LogSettings(level, as_json))
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        for old in [one for one in logger.handlers if isinstance(one, _StderrHandler)]:
            logger.removeHandler(old)
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(level.upper())
    if level == "debug":  # asyncio's own debug records describe its selector
        logging.getLogger("asyncio").setLevel(logging.INFO)


def configured() -> LogSettings | None:
    """Return the settings of the last `configure`; None if this process was not configured."""
    handlers = logging.getLogger(_PACKAGE).handlers
    return next((one.settings for one in handlers if isinstance(one, _StderrHandler)), None)


def add_log_options(parser: argparse.ArgumentParser, default: str = "warning") -> None:
    """Add `--log-level` and `--log-json`."""
    parser.add_argument(
        "--log-level",
        choices=LEVELS,
        default=default,
        help=f"least level of log records, default {default}",
    )
    parser.add_argument("--log-json", action="store_true", help="write log records as JSON lines")


def configure_as_given(arguments: argparse.Namespace) -> None:
    """Configure this process by the options that `add_log_options` added."""
    configure(arguments.log_level, arguments.log_json)


def child_options() -> tuple[str, ...]:
    """Return the options with which a child process logs as this process does."""
    settings = configured()
    if settings is None:
        return ()
    return ("--log-level", settings.level, *(("--log-json",) if settings.as_json else ()))


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to the stderr of the moment, which tests and Ray replace."""

    def __init__(self, settings: LogSettings) -> None:
        super().__init__()
        self.settings = settings
        self.setFormatter(_JsonFormatter() if settings.as_json else _TextFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).isoformat(" ", "milliseconds")  # noqa: DTZ006 - local time, for people
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        ids = "".join(f" {key}={value}" for key, value in _ids(record).items())
        line = f"{at} {record.levelname} {_short_name(record.name)}: {message}"
        exception = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{line} {ids}{exception}" if ids else f"{line}{exception}"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": _short_name(record.name),
            "message": record.getMessage(),
            **_ids(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _ids(record: logging.LogRecord) -> dict[str, str]:
    values = {key: getattr(record, key, None) for key in IDS}
    return {key: str(value) for key, value in values.items() if value is not None}


def _short_name(name: str) -> str:
    """Return a logger's name without the package; that of `__main__` is its module's."""
    if name == "__main__":
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        name = name if spec is None else spec.name
    return name.removeprefix(f"{_PACKAGE}.")
