"""What a command sets up for the lines of its process, undone where it ran in ours."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from streamer.logs import Configured, close_logs


@contextmanager
def logs_as_they_were() -> Iterator[None]:
    """Afterwards lines go where they went before."""
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        yield
    finally:
        close_logs()
        Configured.lines = None
        logging.captureWarnings(False)
        structlog.reset_defaults()
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
