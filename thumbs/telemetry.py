"""Logging: one line per fact, JSON for machines or readable text on a terminal, with the ids that are in scope.

The code logs through the standard library (`logger.info("job ended", extra={"job_id": …})`); this module decides how it
looks. Secrets, signatures and URL queries are never put into a log line.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

QUIET_LOGGERS = {
    "huey": logging.WARNING,
    "alembic.runtime.migration": logging.WARNING,
    "flask-limiter": logging.WARNING,
    "urllib3": logging.ERROR,
}
"""Libraries that tell at INFO what we tell ourselves, or every request that is refused; urllib3 warns with whole URLs,
whose queries may be secret."""

FLOODING_LOGGERS = (
    "huey.consumer.Worker",
    "huey.consumer.Scheduler",
    "flask-limiter",
    "tasks",
    "thumbs.services",
    "thumbs.ledger.database",
)
"""Loggers whose every thread says the same several times a second while a store is away."""
FLOOD_SECONDS = 10.0


class FloodGate(logging.Filter):
    """Lets the same warning of a logger through once in 10 s, and a library's error, as one line without traceback."""

    def __init__(self) -> None:
        super().__init__()
        self._told_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide on a line."""
        is_library = record.name.startswith(("huey.", "flask-limiter"))
        if record.levelno < logging.WARNING or (record.levelno >= logging.ERROR and not is_library):
            return True
        now = time.monotonic()
        if now - self._told_at.get(record.msg, -FLOOD_SECONDS) < FLOOD_SECONDS:
            return False
        self._told_at[record.msg] = now
        if record.exc_info and is_library:
            record.msg, record.args, record.exc_info = f"{record.getMessage()}: {record.exc_info[1]}", (), None
        return True


def configure_logging(log_format: str, log_level: str) -> None:
    """Send every log line of this process to stdout, in one format."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(log_format)],
        )
    )
    logging.basicConfig(handlers=[handler], level=log_level.upper(), force=True)
    for name, level in QUIET_LOGGERS.items():
        logging.getLogger(name).handlers.clear()  # huey_consumer has added one, which would tell everything twice.
        logging.getLogger(name).setLevel(max(level, logging.getLogger().level))
    for name in FLOODING_LOGGERS:
        logging.getLogger(name).filters[:] = [FloodGate()]


@contextmanager
def log_context(**ids: str) -> Iterator[None]:
    """Put the ids on every log line of this thread until the block ends."""
    with structlog.contextvars.bound_contextvars(**ids):
        yield


def bind_log_context(**ids: str) -> None:
    """Put the ids on every log line of this thread until `clear_log_context`, where a block does not fit."""
    structlog.contextvars.bind_contextvars(**ids)


def clear_log_context() -> None:
    """Take every id off this thread's log lines."""
    structlog.contextvars.clear_contextvars()


def _renderers(log_format: str) -> list[Any]:
    if log_format == "json":
        return [_add_severity, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(),
        exception_formatter=structlog.dev.plain_traceback,  # Where `rich` is installed, another one shows variables.
    )
    return [structlog.stdlib.add_log_level, structlog.processors.format_exc_info, _escape, renderer]


def _add_severity(_logger: Any, method: str, line: dict[str, Any]) -> dict[str, Any]:
    """Name the level as log collectors read it, and the text as `message`."""
    return {"severity": method.upper(), "message": line.pop("event"), **line}


def _escape(_logger: Any, _method: str, line: dict[str, Any]) -> dict[str, Any]:
    """Write out what would begin another line or steer a terminal; a traceback's lines are indented."""
    traceback = line.pop("exception", None)
    escaped = {name: _escape_text(value) if isinstance(value, str) else value for name, value in line.items()}
    if traceback is not None:
        escaped["exception"] = "\n".join(f"    {_escape_text(each)}" for each in traceback.split("\n"))
    return escaped


def _escape_text(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
