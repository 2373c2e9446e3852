"""Errors to Sentry, where ``sentry.dsn`` says so: the log's errors, with secrets and names taken out.

Its package is an extra (``pip install 'carbontrack[sentry]'``) and is loaded only then. It sends from a thread of its
own and waits for nobody. None of its integrations is on: what they collect by themselves (requests, local variables,
breadcrumbs) may hold anything.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from carbontrack.config import Config
from carbontrack.redact import Redactor

PACKAGE = "sentry_sdk"
TAGS = ("request_id", "device", "plugin", "job", "method")
"""Keys of the log by which events can be searched."""
FLUSH_S = 2.0


def sentry_problems(config: Config) -> list[str]:
    """Why errors cannot be reported, where they are to be."""
    if config.sentry.dsn is None or importlib.util.find_spec(PACKAGE) is not None:
        return []
    return ["sentry.dsn is set, but its package is not installed, so nothing is reported: pip install sentry-sdk"]


@contextmanager
def errors_reported(config: Config, redactor: Redactor) -> Iterator[None]:
    """Report what the log calls an error until the block ends; without a DSN or its package nothing is."""
    if config.sentry.dsn is None or sentry_problems(config):
        yield
        return
    sdk = importlib.import_module(PACKAGE)
    sdk.init(
        dsn=config.sentry.dsn.get_secret_value(),
        release=f"carbontrack@{version('carbontrack')}",
        default_integrations=False,
        auto_enabling_integrations=False,
        auto_session_tracking=False,
        include_local_variables=False,
        max_breadcrumbs=0,
        server_name="",
        before_send=lambda event, _hint: scrubbed(event, redactor),
    )
    handler = _Reporter(sdk)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        sdk.get_client().close(timeout=FLUSH_S)


def scrubbed(event: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    """An event as it may leave the house."""
    wanted = {name: part for name, part in event.items() if name not in {"contexts", "modules", "user", "request"}}
    found: dict[str, Any] = redactor.value(wanted)
    return found


class _Reporter(logging.Handler):
    """Makes an event of each record that is an error, whether structlog wrote it or the standard library."""

    def __init__(self, sdk: Any) -> None:
        super().__init__(logging.ERROR)
        self._sdk = sdk

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._sdk.capture_event(self._event(record))
        except Exception:  # noqa: BLE001  # as logging's own handlers: what cannot be reported stops nobody
            self.handleError(record)

    def _event(self, record: logging.LogRecord) -> dict[str, Any]:
        told = dict(record.msg) if isinstance(record.msg, dict) else {"event": record.getMessage()}
        error = told.pop("exc_info", None) or record.exc_info
        if error is True:
            error = sys.exc_info()  # a handler runs where the line was written
        event: dict[str, Any] = {}
        if isinstance(error, BaseException) or (error and error[0] is not None):
            event, _ = self._sdk.utils.event_from_exception(error, self._sdk.get_client().options)
        return event | {
            "level": "fatal" if record.levelno >= logging.CRITICAL else "error",
            "logger": record.name,
            "logentry": {"message": str(told.pop("event", ""))},
            "tags": {name: str(told[name]) for name in TAGS if name in told},
            "extra": {name: str(value) for name, value in told.items() if not name.startswith("_")},
        }
