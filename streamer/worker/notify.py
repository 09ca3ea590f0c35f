"""Two ways for the flow's tasks to wait for each other."""

from __future__ import annotations

import anyio


class Notify:
    """Wakes everyone who waits now. Check the condition, then wait: without an await between, no wake-up is lost."""

    def __init__(self) -> None:
        self._event: anyio.Event | None = None  # made by the first who waits: most notifications meet nobody

    def notify(self) -> None:
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()


class Slots:
    """At most `total` holders at once; unlike a semaphore it can be asked how many there are."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.busy = 0
        self._freed = Notify()

    async def acquire(self) -> None:
        while self.busy >= self.total:
            await self._freed.wait()
        self.busy += 1

    def release(self) -> None:
        self.busy -= 1
        self._freed.notify()
