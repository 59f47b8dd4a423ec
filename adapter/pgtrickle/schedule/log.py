"""Structured log lines: one event per line, as JSON or logfmt, never with a secret."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any, TextIO

LOGGER = logging.getLogger("pgtrickle")

_MASK = "********"
#: A word of logfmt needs quotes if it has one of these, or is empty.
_NEEDS_QUOTES = frozenset(' ="\n\r\t\\')


def event(level: int, name: str, **fields: Any) -> None:
    """Log one event. Fields that are None are left out."""
    LOGGER.log(level, name, extra={"fields": {key: value for key, value in fields.items() if value is not None}})


def info(name: str, **fields: Any) -> None:
    """An event of normal operation."""
    event(logging.INFO, name, **fields)


def debug(name: str, **fields: Any) -> None:
    """An event for those who look closely."""
    event(logging.DEBUG, name, **fields)


def warning(name: str, **fields: Any) -> None:
    """Something that somebody should look at, though the work goes on."""
    event(logging.WARNING, name, **fields)


def error(name: str, **fields: Any) -> None:
    """Something failed."""
    event(logging.ERROR, name, **fields)


def configure(
    log_format: str, *, secrets: Iterable[str] = (), verbose: bool = False, stream: TextIO | None = None
) -> None:
    """Send the events of this package to ``stream`` (default stdout).

    Args:
        log_format: ``json`` or ``logfmt``.
        secrets: words that are masked wherever they appear.
        verbose: debug events as well.
        stream: where to.
    """
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(EventFormatter(log_format, tuple(secret for secret in secrets if secret)))
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.DEBUG if verbose else logging.INFO)
    LOGGER.propagate = False


class EventFormatter(logging.Formatter):
    """Renders an event as one line."""

    def __init__(self, log_format: str, secrets: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._render = _json if log_format == "json" else _logfmt
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """``time``, ``level``, ``event``, then the fields of the event."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return self._render({key: self._masked(value) for key, value in fields.items()})

    def _masked(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._masked(item) for item in value]
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, _MASK)
        return value


def _json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, default=str, ensure_ascii=False)


def _logfmt(fields: dict[str, Any]) -> str:
    return " ".join(f"{key}={_word(value)}" for key, value in fields.items())


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    if text and not _NEEDS_QUOTES & set(text):
        return text
    return json.dumps(text, ensure_ascii=False)
