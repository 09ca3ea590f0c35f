"""The side consumer: reads the vector topic whole, remembers what streamed past, and publishes verdicts.

It restores (loads a snapshot if there is a good one, and reads up to where the topic ended when it started), then
follows. Verdicts are published from the committed offset of each partition on; what lies before it was judged by an
earlier run and is only remembered. A snapshot never holds more than what was committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

import structlog
from anyio import (
    BrokenResourceError,
    CancelScope,
    EndOfStream,
    WouldBlock,
    create_memory_object_stream,
    create_task_group,
    current_time,
    sleep,
)
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled
from anyio.streams.memory import MemoryObjectSendStream

from streamer.core.events import Record, TopicPartition
from streamer.core.vectors import Space, Vector
from streamer.core.verdicts import Match
from streamer.indexer.broadcast import Broadcast
from streamer.indexer.commits import Commits
from streamer.indexer.index.payloads import Scalar
from streamer.indexer.progress import REASONS, Phase, Progress, remaining
from streamer.indexer.settings import IndexerSettings
from streamer.indexer.showcase import Showcase
from streamer.indexer.snapshots.format import Offsets
from streamer.indexer.snapshots.schedule import Saving
from streamer.indexer.snapshots.store import Snapshots
from streamer.indexer.state import IndexerState
from streamer.indexer.statistics import IndexerStatistics, IndexerTimes
from streamer.protocols import Changelog, Sink
from streamer.telemetry.tracing import ConsumerTracing
from streamer.telemetry.waiting import Waiting

log = structlog.get_logger(__name__)

_POLLED_AHEAD = 4  # what so many polls have brought may wait to be judged
_LAST_POLL = 1.0  # seconds that a poll may take after `stop`: while brokers are away it looks for them for longer
_BETWEEN_POLLS = 0.005  # seconds; a fetch for each single event would cost as much as judging it


class Indexer:
    """One vector space's memory. `run` it once; `search`, `get` and `statistics` at any time meanwhile."""

    def __init__(
        self,
        changelog: Changelog,
        sink: Sink,
        space: Space,
        settings: IndexerSettings,
        snapshots: Snapshots | None = None,
        tracing: ConsumerTracing | None = None,
    ) -> None:
        self.space = space
        self._changelog = changelog
        self._sink = sink
        self._settings = settings
        self._tracing = tracing or ConsumerTracing()
        self._state = IndexerState(space, settings.capacity, settings.policy)
        self._progress = Progress()
        self._times = IndexerTimes()
        self._times.stages["search"] = self._state.searches.seconds
        self._commits = Commits(
            changelog,
            self._progress,
            most=settings.max_unacknowledged_batches,
            interval=settings.commit_interval,
            renewal=settings.renewal_interval,
            times=self._times,
        )
        self._saving = (
            None if snapshots is None else Saving(snapshots, self._state, changelog, self._progress, self._commits)
        )
        self.live = Broadcast()
        self.showcase = Showcase(self._state.recent, self._state.searches, lambda: self._state.judge.events_missing())
        self._stopping = False
        self._life, self._polling = CancelScope(), CancelScope()
        self._phase: Phase = "not started"

    async def run(self, begun: Callable[[], None] = lambda: None) -> None:
        """Restore, then follow until `stop`. Ends with every verdict acknowledged and its offset committed.

        `begun` is called once the snapshot is loaded: before, there is nothing to lose. An error of any part, or of the
        topic, ends all and is raised (in an ExceptionGroup); the next run publishes a bounded batch of verdicts again.
        """
        try:
            with self._life:
                await self._restore_and_follow(begun)
            if self._life.cancelled_caught:
                log.warning("drain timed out; verdicts without acknowledgement will be published again")
            elif self._saving is not None and self._phase == "following":
                await self._saving.at_the_end()
        finally:
            self._phase = "stopped"
            self.live.close()
            self._state.close()

    async def _restore_and_follow(self, begun: Callable[[], None]) -> None:
        async with create_task_group() as tasks, self._commits.accepting(tasks):
            await self._restore(begun)
            following = CancelScope()
            if self._saving is not None:
                tasks.start_soon(self._saving.regularly, following)
            await self._follow(tasks)
            following.cancel()

    def stop(self) -> None:
        """Make `run` finish what it has begun, within the drain time, and return."""
        self._stopping = True
        self._life.deadline = current_time() + self._settings.drain_timeout
        self._polling.deadline = current_time() + _LAST_POLL

    def waiting(self) -> Waiting | None:
        """None once restored; else what it waits for, and how far it has come."""
        text: str = self._phase
        if text == "restoring":
            total, left = self._progress.restore_records, self._remaining(self._progress.end_offsets)
            text = f"restoring: {total - left:,} of {total:,} records read"
        reason = REASONS[self._phase]
        return None if reason is None else Waiting(reason, text)

    def ready(self) -> str | None:
        """The same as a sentence."""
        return waiting.text if (waiting := self.waiting()) else None

    def commit_age(self) -> dict[TopicPartition, float]:
        now = current_time()
        return {tp: self._commits.age(tp, now) for tp in self._progress.remembered}

    @property
    def committed(self) -> Offsets:
        return self._progress.committed

    async def search(
        self,
        vector: Vector,
        k: int,
        min_similarity: float | None = None,
        *,
        exclude: Collection[str] = (),
        where: Mapping[str, Scalar] | None = None,
    ) -> Sequence[Match]:
        """The `k` nearest of a unit vector of this space, best first; only those at least so similar.

        `where`: values that an event's metadata must have. A match's payload is what is remembered of its event.
        """
        return await self._state.searches.search(vector, k, min_similarity, exclude, where)

    async def get(self, id: str) -> Vector | None:
        """The vector of an id, None when it is not (or no longer) known."""
        return await self._state.searches.get(id)

    def statistics(self) -> IndexerStatistics:
        memory, index = self._state, self._state.judge.index
        now, wall = current_time(), time.time()
        oldest, newest = index.ages(wall)
        return IndexerStatistics(
            ready=self.ready() is None,
            space=self.space.id,
            dimensions=index.dimensions,
            vectors=len(index),
            capacity=index.capacity,
            vector_bytes=index.nbytes,
            restore_records=self._progress.restore_records,
            restore_remaining=self._remaining(self._progress.end_offsets),
            restore_seconds=self._times.restore_seconds(now),
            unacknowledged_batches=self._commits.unacknowledged,
            records_total=memory.records,
            deletions_total=memory.deletions,
            malformed_total=memory.malformed,
            searches_total=memory.searches.total,
            commit_failures_total=self._commits.failures,
            verdicts_refused_total=self._commits.refused,
            foreign_total=dict(memory.foreign),
            verdicts_total=dict(memory.verdicts),
            p_value=memory.p_values,
            oldest_event_age_seconds=oldest,
            newest_event_age_seconds=newest,
            end_to_end_seconds=self._times.end_to_end,
            stage_seconds={**self._times.stages},
            clock_ahead_seconds=self._times.clock_ahead.value(now),
            commit_age_seconds={str(tp): age for tp, age in self.commit_age().items()},
            live_listeners=len(self.live),
            live_missed_total=self.live.missed,
            thresholds=memory.judge.thresholds(),
            snapshot=None if self._saving is None else self._saving.statistics(),
        )

    async def _restore(self, begun: Callable[[], None]) -> None:
        progress = self._progress
        self._times.restore_begins(current_time())
        ends = await self._changelog.end_offsets()
        for tp in progress.begin(self._changelog.positions(), ends, await self._changelog.committed()):
            log.warning(
                "the committed verdict offset is beyond the end of the partition; judging it from its beginning",
                partition=f"{tp.topic}/{tp.partition}",
            )
        if self._saving is not None:
            self._phase = "loading the snapshot"
            await self._saving.load()
        progress.read_from(self._changelog.positions())
        self._phase = "restoring"
        begun()

        # Partitions are not read in step. What is to be judged waits until all that is older has been remembered,
        # or near-duplicates of events in slower partitions would be missed after every restart.
        held: list[Record] = []
        while not self._stopping and self._remaining(progress.judged):
            if len(held) > self._settings.max_held_back:
                log.warning(
                    "the partitions are too far apart to judge in order; some verdicts miss older events",
                    held_back=len(held),
                )
                break
            records = await self._poll()
            held += filter(progress.is_new, records)
            await self._process([record for record in records if not progress.is_new(record)])
        if self._stopping:
            return  # what is held back would be judged against half a memory; the next run does better
        await self._process(held)
        while not self._stopping and self._remaining(progress.end_offsets):
            await self._process(await self._poll())
        if not self._stopping:
            if self._saving is not None:
                self._saving.caught_up()
            self._phase = "following"
            self._times.restore_ends(current_time())
            log.info("caught up", vectors=len(self._state.judge.index), space=self.space.id)

    async def _follow(self, tasks: TaskGroup) -> None:
        send, receive = create_memory_object_stream[Sequence[Record]](_POLLED_AHEAD)
        tasks.start_soon(self._read_ahead, send)
        async with receive:
            async for records in receive:
                batch = list(records)
                with suppress(WouldBlock, EndOfStream):
                    while len(batch) < self._settings.batch_events:
                        batch += receive.receive_nowait()
                if self._stopping:
                    break  # not begun, so the next run does it
                await self._process(batch)
                self._progress.waiting -= len(batch)

    async def _read_ahead(self, send: MemoryObjectSendStream[Sequence[Record]]) -> None:
        """While a batch is judged, so that what comes meanwhile is at hand afterwards: the client asks the broker for
        more of a partition only once all that it had of it has been taken."""
        async with send:
            while not self._stopping:
                if records := await self._poll():
                    self._progress.waiting += len(records)
                    with suppress(BrokenResourceError), self._changelog.paused():  # broken: stopping
                        await send.send(records)
                        await sleep(_BETWEEN_POLLS)
                elif not self._progress.waiting:
                    await self._commits.follow(self._changelog.positions())

    async def _poll(self) -> Sequence[Record]:
        # A poll that is cancelled may take records with it. It is short; whoever cancels waits for its end.
        records: Sequence[Record] = []
        with CancelScope(shield=True) as self._polling:
            if self._stopping:
                self._polling.deadline = current_time() + _LAST_POLL
            records = await self._changelog.poll(self._settings.poll_timeout)
        await checkpoint_if_cancelled()  # idle, the loop would never meet another chance to notice
        return records

    async def _process(self, records: Sequence[Record]) -> None:
        """Remember, judge and publish, in order; waits while too many verdicts are unacknowledged."""
        for start in range(0, len(records), self._settings.batch_events):
            if start and self._stopping:
                return  # the next run does it
            batch = records[start : start + self._settings.batch_events]
            begun = current_time()
            with self._tracing.span(batch) as span:
                messages = await self._state.apply(batch, self._progress, self._settings.verdict_topic, span)
            sent = current_time()
            self._times.judged([record.timestamp for record in batch], sent - begun, time.time(), sent)
            acknowledged = await self._sink.send(messages) if messages else None
            for message in messages:
                self.live.send(message.value or b"")
            new = [record for record in batch if self._progress.is_new(record)]
            if new:
                offsets = {record.tp: record.offset + 1 for record in new}
                times = [record.timestamp for record in new]
                await self._commits.add(acknowledged, offsets, sent, times)

    def _remaining(self, until: Offsets) -> int:
        return remaining(until, self._changelog.positions())
