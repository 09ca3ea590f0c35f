"""Orderly ends: what SIGTERM, Ctrl-C and a terminal that is closed do."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
import structlog

log = structlog.get_logger(__name__)

# A start that has been told to stop gets so long to leave its group and close its files. A thread that loads a model
# cannot be interrupted, and the interpreter would wait for its end.
START_GRACE_SECONDS: Final = 1.5


class Lifetime:
    """A process that is starting can be given up at any moment; one that works has something to end.

    `works(stop)` marks the change: from then on a signal calls `stop`.
    """

    def __init__(self) -> None:
        self.stop: Callable[[], None] | None = None

    def works(self, stop: Callable[[], None]) -> None:
        self.stop = stop


@asynccontextmanager
async def until_signalled(stop: Callable[[], None] | None = None) -> AsyncIterator[Lifetime]:
    """Call `stop` at the first SIGTERM, SIGINT or SIGHUP; a second one cancels what is inside at once. Under nohup,
    which has SIGHUP ignored, it stays so.

    Without `stop`, and until the lifetime that it gives has one, the first signal cancels what is inside. The process
    is ended with exit code 0 when that takes longer than START_GRACE_SECONDS.
    """
    lifetime = Lifetime()
    lifetime.stop = stop

    async def watch() -> None:
        with anyio.open_signal_receiver(*_ends()) as received:
            seen = 0
            async for number in received:
                seen += 1
                if seen > 1:
                    log.warning("stopping at once", signal=number.name)
                    tasks.cancel_scope.cancel()
                    return
                log.info("stopping", signal=number.name)
                if lifetime.stop is None:
                    _end_within(START_GRACE_SECONDS)
                    tasks.cancel_scope.cancel()
                    return
                lifetime.stop()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield lifetime
        tasks.cancel_scope.cancel()


def _ends() -> list[signal.Signals]:
    ends = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ends.append(signal.SIGHUP)
    return ends


def _end_within(seconds: float) -> None:
    """End the process from a thread of its own: the event loop may be waiting for another one."""
    # Nothing has been read or published yet, so nothing is lost. `exit` would wait for the threads.
    timer = threading.Timer(seconds, os._exit, [0])
    timer.daemon = True
    timer.start()
