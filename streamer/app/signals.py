"""Orderly ends: what SIGTERM and Ctrl-C do."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import structlog

log = structlog.get_logger(__name__)


@asynccontextmanager
async def until_signalled(stop: Callable[[], None]) -> AsyncIterator[None]:
    """Call `stop` at the first SIGTERM or SIGINT; a second one cancels what is inside at once."""

    async def watch() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            seen = 0
            async for number in received:
                seen += 1
                if seen > 1:
                    log.warning("stopping at once", signal=number.name)
                    tasks.cancel_scope.cancel()
                    return
                log.info("stopping", signal=number.name)
                stop()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield
        tasks.cancel_scope.cancel()
