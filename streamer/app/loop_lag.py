"""How late the event loop is: heartbeats, deadlines and health checks are as late as that."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NoReturn

import anyio

PERIOD = 0.1
REMEMBERED = 600  # periods: a minute


class LoopLag:
    """Run `watch` beside everything else. `worst`: the longest delay in seconds of the last minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._delays: deque[float] = deque([0.0], REMEMBERED)

    async def watch(self) -> NoReturn:
        while True:
            before = self._clock()
            await anyio.sleep(PERIOD)
            self._delays.append(max(0.0, self._clock() - before - PERIOD))

    @property
    def worst(self) -> float:
        return max(self._delays)
