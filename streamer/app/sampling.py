"""Samples of a role's own numbers, for the charts of its page."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

import anyio

from streamer.http.history import History, Values


async def sample_regularly(history: History, read: Callable[[float], Awaitable[Values]]) -> NoReturn:
    """Runs beside a role for as long as it does. `read` gets the time, in seconds since the epoch."""
    due = anyio.current_time()
    while True:
        now = time.time()
        history.add(now, await read(now))
        due = max(due + history.step, anyio.current_time())
        await anyio.sleep_until(due)
