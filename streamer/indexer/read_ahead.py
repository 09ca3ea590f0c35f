"""Reads on while a batch is judged, so that what comes meanwhile is at hand afterwards."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Final

from anyio import BrokenResourceError, EndOfStream, WouldBlock, create_memory_object_stream, sleep
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from streamer.core.events import Record
from streamer.indexer.commits import Commits
from streamer.indexer.polling import Polling
from streamer.indexer.progress import Progress
from streamer.indexer.settings import IndexerSettings
from streamer.indexer.state import IndexerState
from streamer.protocols import Changelog

_POLLED_AHEAD: Final = 4  # what so many polls have brought may wait to be judged
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
        self.polling = Polling(changelog, settings.poll_timeout)
        self.stopping = False

    def stop(self) -> None:
        """Of what has been read, only what is being judged will be."""
        self.stopping = True
        self.polling.stop()

    @property
    def ends(self) -> bool:
        """Whether nothing more is to be begun."""
        return self.stopping or self._changelog.is_changing

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
                if records := await self.polling.poll():
                    self._progress.waiting += len(records)
                    with suppress(BrokenResourceError), self._changelog.paused():  # broken: it ends
                        await send.send(records)
                        await sleep(_BETWEEN_POLLS)
                elif not self._progress.waiting and not self.ends:  # where it ends, what was read may be left unjudged
                    await self._commits.follow(self._changelog.positions())
                    await self._state.idle(self._progress)
