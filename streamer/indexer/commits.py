"""Offsets of what has been judged, committed once the broker has the verdicts."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog
from anyio import CancelScope, EndOfStream, Event, create_memory_object_stream, current_time
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from streamer.core.events import TopicPartition
from streamer.errors import Refused, RetriableError
from streamer.indexer.progress import Progress
from streamer.indexer.statistics import IndexerTimes
from streamer.protocols import Acknowledgement, Changelog
from streamer.telemetry.commit_health import CommitHealth

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Published:
    """A batch's verdicts on their way, and the offsets to commit once the broker has them all. `sent`: when they went;
    `timestamps`: of the records that were judged, in milliseconds since the epoch."""

    acknowledged: Acknowledgement | None
    offsets: Mapping[TopicPartition, int]
    sent: float = 0.0
    timestamps: Sequence[int] = field(default=())


class Commits:
    """`progress.committed` says how far they are. `most`: batches whose verdicts are unacknowledged at the same time.
    `interval`: seconds that a commit may wait for more. `renewal`: all offsets are committed anew every so many
    seconds, because brokers forget them, after a week by default. `uncommitted_since`: by partition, the last commit or
    the first batch after it, whichever is later; not there while all is committed.
    """

    def __init__(
        self,
        changelog: Changelog,
        progress: Progress,
        *,
        most: int,
        interval: float,
        renewal: float,
        times: IndexerTimes | None = None,
    ) -> None:
        self.uncommitted_since: dict[TopicPartition, float] = {}
        self._times = times or IndexerTimes()
        self.health = CommitHealth()
        self.unacknowledged = 0
        self.failures = 0
        self.refused = 0
        self._changelog = changelog
        self._progress = progress
        self._most = most
        self._interval = interval
        self._renewal = renewal
        self._made = Event()
        self._added: dict[TopicPartition, int] = {}
        self._published: MemoryObjectSendStream[_Published] | None = None

    @asynccontextmanager
    async def accepting(self, tasks: TaskGroup) -> AsyncIterator[None]:
        """Batches may be added inside; the task that commits them ends when all of them are done."""
        send, receive = create_memory_object_stream[_Published](self._most)
        tasks.start_soon(self._run, receive)
        async with send:
            self._published = send
            yield

    async def add(
        self,
        acknowledged: Acknowledgement | None,
        offsets: Mapping[TopicPartition, int],
        sent: float = 0.0,
        timestamps: Sequence[int] = (),
    ) -> None:
        """Waits while too many are unacknowledged. `sent`: when they went, by the loop's clock; `timestamps`: of the
        records."""
        if self._published is None:
            raise AssertionError("nothing is accepted yet. This is a bug.")
        self.unacknowledged += 1
        self._added.update(offsets)
        now = current_time()
        for tp in offsets:
            self.uncommitted_since.setdefault(tp, now)
        await self._published.send(_Published(acknowledged, offsets, sent, timestamps))

    def age(self, tp: TopicPartition, now: float) -> float:
        """Seconds since the last commit while there is something to commit, else 0.0."""
        return max(0.0, now - self.uncommitted_since.get(tp, now))

    async def follow(self, positions: Mapping[TopicPartition, int]) -> None:
        """Where reading is, all that has been read being added: markers of transactions, at the end of a topic for
        instance, are no records, but tools count them as lag."""
        known = {**self._progress.committed, **self._added}
        ahead = {tp: offset for tp, offset in positions.items() if tp in known and known[tp] < offset}
        if ahead:
            await self.add(None, ahead)

    async def until_committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        while self._progress.bounds().uncommitted(offsets):
            await self._made.wait()

    async def _run(self, published: MemoryObjectReceiveStream[_Published]) -> None:
        """Await acknowledgements in order and commit what they allow."""
        offsets: dict[TopicPartition, int] = {}
        due, renewal = math.inf, current_time() + self._renewal
        async with published:
            while True:
                batch = None
                with CancelScope(deadline=min(due, renewal)):
                    try:
                        batch = await published.receive()
                    except EndOfStream:
                        break
                if batch is not None:
                    if batch.acknowledged is not None:
                        await self._acknowledge(batch.acknowledged)
                        self._times.published(batch.timestamps, current_time() - batch.sent, time.time())
                    self.unacknowledged -= 1
                    offsets.update(batch.offsets)
                    due = min(due, current_time() + self._interval)
                if current_time() >= renewal:
                    offsets = {**self._progress.committed, **offsets}
                    renewal = current_time() + self._renewal
                    due = current_time() if offsets else math.inf
                if current_time() >= due:
                    due = math.inf if await self._commit(offsets) else current_time() + self._interval
        if offsets:
            await self._commit(offsets)

    async def _acknowledge(self, acknowledged: Acknowledgement) -> None:
        """What the broker refuses in every form is given up: no verdict is worth ending the index for."""
        try:
            await acknowledged()
        except Refused as exc:
            self.refused += len(exc.positions)
            log.error("verdicts given up", count=len(exc.positions), reason=str(exc))

    async def _commit(self, offsets: dict[TopicPartition, int]) -> bool:
        """Commit and clear the offsets; False, leaving them for later, when the coordinator does not answer."""
        begun = current_time()
        self.health.begins(begun, time.time())
        try:
            await self._changelog.commit(offsets)
        except RetriableError as exc:
            self.failures += 1
            self.health.failed(str(exc))
            log.warning("verdict offsets not committed; retrying", reason=str(exc))
            return False
        self.health.succeeded()
        now = current_time()
        self._times.stages["commit"].observe(now - begun)
        self._progress.committed.update(offsets)
        for tp, offset in offsets.items():
            if self._added.get(tp, offset) > offset:
                self.uncommitted_since[tp] = now
            else:
                self.uncommitted_since.pop(tp, None)
        offsets.clear()
        made, self._made = self._made, Event()
        made.set()
        return True
