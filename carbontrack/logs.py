"""What the process writes to its log: for people on a terminal, as JSON lines for machines."""

from __future__ import annotations

import logging
import sys
from collections import deque
from typing import Any, Literal

import structlog

KEPT_LINES = 2000
"""Of the log, in memory: for who asks for diagnostics, as nobody knows where standard error has gone."""
LONGEST_LINE = 8000
"""Characters of a line that is kept; a traceback may be long."""


class RecentLines(logging.Handler):
    """The newest lines of the log as JSON, whatever form they are written in; older ones are forgotten."""

    def __init__(self, most: int = KEPT_LINES) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=most)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record)[:LONGEST_LINE])
        except Exception:  # noqa: BLE001  # as logging's own handlers: a line that cannot be written stops nobody
            self.handleError(record)

    def lines(self) -> list[str]:
        """What is kept, oldest first."""
        return list(self._lines)


def set_up_logging(level: str, form: Literal["auto", "console", "json"]) -> RecentLines:
    """Send structlog's and the standard library's records to standard error in one form; what keeps the newest."""
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        cache_logger_on_first_use=True,
    )
    lines: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Plain tracebacks: the pretty ones show local variables, and those hold passwords.
    for_people: list[Any] = [
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
    ]

    def formatter(last: list[Any]) -> logging.Formatter:
        without_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
        return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[without_meta, *last])

    handler, recent = logging.StreamHandler(sys.stderr), RecentLines()
    handler.setFormatter(formatter(lines if as_json else for_people))
    recent.setFormatter(formatter(lines))
    root = logging.getLogger()
    root.handlers[:] = [handler, recent]
    root.setLevel(level.upper())
    logging.getLogger("mqtt").setLevel(logging.WARNING)  # paho tells of every packet
    return recent
