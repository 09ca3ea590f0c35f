"""Log lines on stderr: readable on a terminal, logfmt elsewhere; the libraries' own warnings in the same shape."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any, Final, TextIO

import structlog

from streamer.core.redaction import without_credentials

_KINDS_OF_LINES: Final = 1_000


class Log:
    """Standard error, as a stream that never fails: a full disk or a reader who went away must not end the work that
    there is something to say about."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            return 0

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


class Repeats(logging.Filter):
    """Lets what a library says over and over through once in `interval` seconds, with the number of those left out.

    While brokers are away, the Kafka client logs some 40 lines a second. What counts as the same: logger, level and
    message before its values are put in.
    """

    def __init__(self, interval: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._interval = interval
        self._clock = clock
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}  # when let through, how many left out since

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] == "streamer":
            return True
        key, now = (record.name, record.levelno, str(record.msg)), self._clock()
        at, left_out = self._seen.get(key, (-inf, 0))
        if now - at < self._interval:
            self._seen[key] = at, left_out + 1
            return False
        if len(self._seen) >= _KINDS_OF_LINES:
            self._seen.clear()  # whoever has so many kinds puts values into the message beforehand
        self._seen[key] = now, 0
        if left_out:
            record.msg = f"{record.getMessage()} ({left_out} more like this since the last)"
            record.args = ()
        return True


def _redact(_: Any, __: str, event: Any) -> Any:
    """Addresses with a user and password get into lines as parts of libraries' messages, and of errors."""
    return {name: without_credentials(value) if isinstance(value, str) else value for name, value in event.items()}


def configure_logs(*, debug: bool = False) -> None:
    """Ours from INFO, the libraries' from WARNING and not over and over; with `debug` everything."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    log: Any = Log(sys.stderr)
    terminal = sys.stderr.isatty()
    renderer: Any = (
        structlog.dev.ConsoleRenderer()
        if terminal
        else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)
    )
    structlog.configure(
        processors=[*shared, *([] if terminal else [structlog.processors.format_exc_info]), _redact, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(log),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(log)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _redact, renderer],
            foreign_pre_chain=[*shared, structlog.processors.format_exc_info],
        )
    )
    if not debug:
        handler.addFilter(Repeats())
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if debug else logging.WARNING, force=True)
    logging.getLogger("streamer").setLevel(logging.DEBUG if debug else logging.INFO)
