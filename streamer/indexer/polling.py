"""Polls of the changelog: none is cancelled, and work may go on beside one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from anyio import CancelScope, Event, create_task_group, current_time
from anyio.lowlevel import checkpoint_if_cancelled

from streamer.core.events import Record
from streamer.protocols import Changelog

_LAST_POLL = 1.0  # seconds that a poll may take after `stop`: while brokers are away it looks for them for longer


class Polling:
    """Polls one changelog, each time for at most `timeout` seconds."""

    def __init__(self, changelog: Changelog, timeout: float) -> None:
        self._changelog = changelog
        self._timeout = timeout
        self._stopping = False
        self._scope = CancelScope()

    def stop(self) -> None:
        """No poll takes long from now on."""
        self._stopping = True
        self._scope.deadline = current_time() + _LAST_POLL

    async def poll(self) -> Sequence[Record]:
        # A poll that is cancelled may take records with it. It is short; whoever cancels waits for its end.
        records: Sequence[Record] = []
        with CancelScope(shield=True) as self._scope:
            if self._stopping:
                self._scope.deadline = current_time() + _LAST_POLL
            records = await self._changelog.poll(self._timeout)
        await checkpoint_if_cancelled()  # idle, the loop would never meet another chance to notice
        return records

    async def beside(self, work: Callable[[Event], Coroutine[Any, Any, None]]) -> Sequence[Record]:
        """What a poll brings, when `work` is done as well. An error of either is raised in an ExceptionGroup.

        `work` sets the event when it can do without the event loop for a while. A poll keeps the loop busy as long as
        it reads what has been fetched: had it begun before, the one would only be done after the other.
        """
        records: list[Record] = []
        at_work = Event()

        async def working() -> None:
            try:
                await work(at_work)
            finally:
                at_work.set()

        async with create_task_group() as both:
            both.start_soon(working)
            await at_work.wait()
            records += await self.poll()
        return records
