"""How the flow's tasks wake each other."""

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
