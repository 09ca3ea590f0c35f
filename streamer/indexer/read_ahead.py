"""Reads on while a batch is judged, so that what comes meanwhile is at hand afterwards."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Final

from anyio import (
    BrokenResourceError,
    CancelScope,
    EndOfStream,
    WouldBlock,
    create_memory_object_stream,
    current_time,
    sleep,
)
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled
from anyio.streams.memory import MemoryObjectSendStream

from streamer.core.events import Record
from streamer.indexer.commits import Commits
from streamer.indexer.progress import Progress
from streamer.indexer.settings import IndexerSettings
from streamer.indexer.state import IndexerState
from streamer.protocols import Changelog

_POLLED_AHEAD: Final = 4  # what so many polls have brought may wait to be judged
_LAST_POLL: Final = 1.0  # seconds that a poll may take after `stop`: while brokers are away it looks for them longer
_BETWEEN_POLLS: Final = 0.005  # seconds; a fetch for each single event would cost as much as judging it


class ReadAhead:
    """The changelog, read until `stop`, or until its partitions change. While there is nothing to read, what the others
    have put off is done."""

    def __init__(
        self, changelog: Changelog, settings: IndexerSettings, progress: Progress, commits: Commits, state: IndexerState
    ) -> None:
        self._changelog = changelog
        self._settings = settings
        self._progress = progress
        self._commits = commits
        self._state = state
        self._polling = CancelScope()
        self.stopping = False

    def stop(self) -> None:
        """Of what has been read, only what is being judged will be."""
        self.stopping = True
        self._polling.deadline = current_time() + _LAST_POLL

    @property
    def ends(self) -> bool:
        """Whether nothing more is to be begun."""
        return self.stopping or self._changelog.is_changing

    async def poll(self) -> Sequence[Record]:
        # A poll that is cancelled may take records with it. It is short; whoever cancels waits for its end.
        records: Sequence[Record] = []
        with CancelScope(shield=True) as self._polling:
            if self.stopping:
                self._polling.deadline = current_time() + _LAST_POLL
            records = await self._changelog.poll(self._settings.poll_timeout)
        await checkpoint_if_cancelled()  # idle, the loop would never meet another chance to notice
        return records

    async def batches(self, tasks: TaskGroup) -> AsyncGenerator[list[Record], None]:
        """Until it `ends`. A batch counts as judged when the next one is asked for."""
        send, receive = create_memory_object_stream[Sequence[Record]](_POLLED_AHEAD)
        tasks.start_soon(self._read, send)
        async with receive:
            async for records in receive:
                batch = list(records)
                with suppress(WouldBlock, EndOfStream):
                    while len(batch) < self._settings.batch_events:
                        batch += receive.receive_nowait()
                if self.ends:
                    break  # not begun, so it is read again
                yield batch
                self._progress.waiting -= len(batch)
        self._progress.waiting = 0

    async def _read(self, send: MemoryObjectSendStream[Sequence[Record]]) -> None:
        """The client asks the broker for more of a partition only once all that it had of it has been taken."""
        async with send:
            while not self.ends:
                if records := await self.poll():
                    self._progress.waiting += len(records)
                    with suppress(BrokenResourceError), self._changelog.paused():  # broken: it ends
                        await send.send(records)
                        await sleep(_BETWEEN_POLLS)
                elif not self._progress.waiting:
                    await self._commits.follow(self._changelog.positions())
                    await self._state.idle(self._progress)
