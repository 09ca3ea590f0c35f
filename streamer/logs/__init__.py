"""Log lines on stderr: for people on a terminal, JSON lines elsewhere; the libraries' own warnings in the same shape.

No line carries a text, a vector or a secret, at any level, unless `log.include_texts` is set:
* our own lines have none among their facts, and words of others in them (`errors.quoted`) are left out;
* libraries print requests, records and SQL parameters at DEBUG, so they are heard from INFO at most;
* the text of a foreign error is left out of its traceback;
* the settings' secrets are cut out of every line, last of all.
"""

from __future__ import annotations

import atexit
import logging
import shutil
import sys
from asyncio import CancelledError
from collections.abc import Collection
from functools import partial
from typing import Any, Final, Literal

import structlog

from streamer.logs.lines import Line, Lines, Stream
from streamer.logs.render import console_line, json_line
from streamer.logs.tracebacks import error_text

LogFormat = Literal["auto", "console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class _NamedLogger(structlog.WriteLogger):
    """Knows its name, which `add_logger_name` puts into the line."""

    def __init__(self, stream: Any, name: str) -> None:
        super().__init__(stream)
        self.name = name


class Libraries(logging.Handler):
    """Everything that comes through the standard library's logging."""

    def __init__(self, lines: Lines, level: int, *, include_texts: bool) -> None:
        super().__init__(level)
        self._lines = lines
        self._include_texts = include_texts

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and isinstance(record.exc_info[1], CancelledError):
            return  # of a request that the end of the server has cut short; uvicorn takes it for a fault of ours
        line: Line = {
            "timestamp": _timestamp(None, "", {})["timestamp"],
            "level": record.levelname.lower(),
            "event": self._event(record).strip(),
            "logger": record.name,
        }
        if record.exc_info:
            line["exc_info"] = record.exc_info
        self._lines.tell(line, str(record.msg))

    def _event(self, record: logging.LogRecord) -> str:
        args = record.args
        if not self._include_texts and isinstance(args, tuple):
            args = tuple(error_text(arg) if isinstance(arg, BaseException) else arg for arg in args)
        try:
            event = str(record.msg) % args if args else str(record.msg)
        except (TypeError, ValueError):  # values that do not fit the message
            event = str(record.msg)
        # Below the first line of asyncio's are tasks with the errors that ended them.
        return event.partition("\n")[0] if record.name == "asyncio" and not self._include_texts else event


_timestamp = structlog.processors.TimeStamper(fmt="iso", utc=True)


class Configured:
    """What `configure_logs` set up last."""

    lines: Lines | None = None


def configure_logs(
    *,
    format: LogFormat = "auto",
    level: LogLevel = "info",
    include_texts: bool = False,
    secrets: Collection[str] = (),
) -> None:
    """Ours from `level`, the libraries' from WARNING; with `debug` everything, but see the module about libraries.

    `auto` is the console on a terminal and JSON lines elsewhere. `secrets` occur in no line.
    """
    close_logs()
    stream = Stream(sys.stderr)
    is_terminal = sys.stderr.isatty()
    on_console = is_terminal if format == "auto" else format == "console"
    lines = Lines(
        stream,
        partial(_console, color=is_terminal) if on_console else json_line,
        include_texts=include_texts,
        secrets=secrets,
    )
    Configured.lines = lines
    number = _LEVELS[level]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            _timestamp,
            structlog.processors.StackInfoRenderer(),
            lines,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *names: _NamedLogger(stream, names[0] if names else "streamer"),
        cache_logger_on_first_use=False,  # or the lines of a module that has logged once would be fixed for ever
    )
    libraries = max(number, logging.WARNING)
    if number == logging.DEBUG:
        libraries = logging.DEBUG if include_texts else logging.INFO
    # The bound is the handler's: a library's own setting of its logger's level must not get past it.
    logging.basicConfig(
        handlers=[Libraries(lines, libraries, include_texts=include_texts)], level=libraries, force=True
    )
    logging.captureWarnings(True)


def close_logs() -> None:
    """Tell how often the last lines were repeated. For the end of the process; logging goes on to work."""
    if Configured.lines is not None:
        Configured.lines.close()


atexit.register(close_logs)


def _console(line: Line, *, color: bool) -> str:
    return console_line(line, shutil.get_terminal_size((100, 24)).columns, color=color)
