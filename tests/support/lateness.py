"""Limits on seconds that hold on a loaded machine, too: tests run beside each other, and beside other work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from streamer.app.loop_lag import LoopLag

HANDOVERS = 4  # of a piece of work between processes and threads, each of which may have to wait for a processor


@dataclass(slots=True)
class Timed:
    seconds: float = 0.0


def excused(lag: LoopLag) -> float:
    """Seconds by which something may be late if our own loop was as late as that; next to none on an idle machine."""
    return HANDOVERS * lag.worst


@asynccontextmanager
async def timed() -> AsyncIterator[Timed]:
    """How long the block took, less what is excused."""
    lag, found, began = LoopLag(), Timed(), time.monotonic()
    watching = asyncio.ensure_future(lag.watch())
    try:
        yield found
    finally:
        found.seconds = time.monotonic() - began - excused(lag)
        watching.cancel()
        await asyncio.wait([watching])
