"""What a role waits for and does without, and since when: seen often enough that nothing of a moment is missed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

import anyio

from streamer.http.role_state import RoleState
from streamer.telemetry.rate import Rate
from streamer.telemetry.waiting import Held, Waiting, Waits

LOOK_INTERVAL: Final = 0.25  # seconds: a look takes microseconds


class Conditions:
    """Run `watch` beside a role. `work`: a counter of what is done, for `rate`, which is per second."""

    def __init__(
        self,
        waits: Callable[[], Sequence[Waiting]],
        lacks: Callable[[], Sequence[Waiting]],
        work: Callable[[], float],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._find_waits = waits
        self._find_lacks = lacks
        self._work = work
        self._clock = clock
        self._waits, self._lacks = Waits(), Waits()
        self.rate = Rate()
        self.started = clock()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock()

    def waits(self) -> list[Held]:
        return self._waits.observe(self._find_waits(), self._clock())

    def lacks(self) -> list[Held]:
        return self._lacks.observe(self._find_lacks(), self._clock())

    def state(self, not_ready: str | None) -> RoleState:
        return RoleState(not_ready=not_ready, waits=self.waits(), degraded=self.lacks())

    async def watch(self) -> NoReturn:
        while True:
            self.waits()
            self.lacks()
            self.rate.note(self._work(), anyio.current_time())
            await anyio.sleep(LOOK_INTERVAL)
