"""Log lines on stderr: readable on a terminal, logfmt elsewhere; the libraries' own warnings in the same shape."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Any, TextIO

import structlog


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


def configure_logs(*, debug: bool = False) -> None:
    """Ours from INFO, the libraries' from WARNING; with `debug` everything."""
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
        processors=[*shared, *([] if terminal else [structlog.processors.format_exc_info]), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(log),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(log)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[*shared, structlog.processors.format_exc_info],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if debug else logging.WARNING, force=True)
    logging.getLogger("streamer").setLevel(logging.DEBUG if debug else logging.INFO)
