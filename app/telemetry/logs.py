"""The format of log lines: JSON objects for machines, text for people."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

# The id of the current request; every log record carries it.
request_id: ContextVar[str] = ContextVar("request_id", default="-")


def configure(level: str, form: Literal["auto", "json", "text"]) -> None:
    """Log to standard error at `level` and above; `auto` means `text` on a terminal, `json` elsewhere."""
    handler = logging.StreamHandler()
    handler.setFormatter(_text() if form == "text" or (form == "auto" and sys.stderr.isatty()) else _json())
    handler.addFilter(_with_request_id)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _with_request_id(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    return True


def _text() -> logging.Formatter:
    return logging.Formatter("%(asctime)s %(levelname)-7s %(message)s  [%(name)s %(request_id)s]")


def _json() -> logging.Formatter:
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s %(request_id)s",
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp=True,
    )
