"""The side consumer: reads the vector topic whole, remembers what streamed past, and publishes verdicts.

It restores (loads a snapshot if there is a good one, and reads up to where the topic ended when it started), then
follows. Verdicts are published from the committed offset of each partition on; what lies before it was judged by an
earlier run and is only remembered. A snapshot never holds more than what was committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial

import structlog
from anyio import CancelScope, Event, create_task_group, current_time, move_on_after
from anyio.abc import TaskGroup

from streamer.core.events import Message, Record, TopicPartition
from streamer.core.vectors import Space, Vector
from streamer.core.verdicts import Match
from streamer.indexer.broadcast import Broadcast
from streamer.indexer.commits import Commits
from streamer.indexer.distant.patience import Abandoned
from streamer.indexer.index.payloads import Scalar
from streamer.indexer.progress import Phase, Progress, remaining
from streamer.indexer.read_ahead import ReadAhead
from streamer.indexer.report import gathered
from streamer.indexer.settings import IndexerSettings
from streamer.indexer.showcase import Showcase
from streamer.indexer.snapshots.format import Offsets
from streamer.indexer.snapshots.schedule import Saving
from streamer.indexer.snapshots.store import Snapshots
from streamer.indexer.state import IndexerState
from streamer.indexer.statistics import IndexerStatistics, IndexerTimes
from streamer.protocols import Changelog, Sink
from streamer.stores import VectorStore
from streamer.telemetry.tracing import ConsumerTracing
from streamer.telemetry.waiting import Waiting

log = structlog.get_logger(__name__)

_REMEMBERED = 1024  # records in one go, when none of them is judged


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
        store: VectorStore | None = None,  # where vectors are kept instead of in memory
    ) -> None:
        self.space = space
        self._changelog = changelog
        self._sink = sink
        self._settings = settings
        self._tracing = tracing or ConsumerTracing()
        self._state = IndexerState(space, settings.capacity, settings.policy, store)
        self._progress = Progress()
        self._times = IndexerTimes()
        self.searches = self._state.searches
        self._times.stages["search"] = self.searches.seconds
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
        self.commit_health = self._commits.health
        self._reading = ReadAhead(changelog, settings, self._progress, self._commits, self._state)
        self.live = Broadcast()
        self.showcase = Showcase(self._state.recent, self.searches, lambda: self._state.judge.events_missing())
        self._life = CancelScope()
        self._has_learned = False  # of what a store held before
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
            elif self._phase == "following":
                await self._settle()
        finally:
            self._phase = "stopped"
            self.live.close()
            self._state.close()

    async def _settle(self) -> None:
        """All has been judged, published and as a rule committed: the next run goes on from here."""
        with suppress(Abandoned):  # then the next run reads a little again
            await self._state.settle(self._progress)
        if self._saving is not None:
            await self._saving.at_the_end()

    async def _restore_and_follow(self, begun: Callable[[], None]) -> None:
        async with create_task_group() as tasks, self._commits.accepting(tasks):
            following = CancelScope()
            while not self._reading.stopping:
                is_first = self._phase == "not started"
                await self._restore(begun)
                if self._saving is not None and is_first:
                    tasks.start_soon(self._saving.regularly, following)
                await self._follow(tasks)
                if self._changelog.is_changing and not self._reading.stopping:
                    await self._hand_over()
            following.cancel()

    def stop(self) -> None:
        """Make `run` finish what it has begun, within the drain time, and return."""
        self._reading.stop()
        self._state.patience.end()
        self._life.deadline = current_time() + self._settings.drain_timeout

    def waiting(self) -> Waiting | None:
        """None once restored; else what it waits for, and how far it has come."""
        return self._progress.waiting_in(self._phase, self._changelog.positions(), self._state.patience.problem)

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
        return await self.searches.search(vector, k, min_similarity, exclude, where)

    async def get(self, id: str) -> Vector | None:
        """The vector of an id, None when it is not (or no longer) known."""
        return await self.searches.get(id)

    def statistics(self) -> IndexerStatistics:
        return gathered(
            self._state,
            self._progress,
            self._commits,
            self._times,
            self.live,
            is_ready=self.ready() is None,
            remaining=self._remaining(self._progress.end_offsets),
            commit_ages=self.commit_age(),
            snapshot=None if self._saving is None else self._saving.statistics(),
            clocks=(current_time(), time.time()),
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
        if self._saving is not None and self._phase == "not started":
            self._phase = "loading the snapshot"
            await self._saving.load()
        if self._state.is_distant:
            await self._take_up()
        progress.read_from(self._changelog.positions())
        self._phase = "restoring"
        begun()

        # Partitions are not read in step. What is to be judged waits until all that is older has been remembered,
        # or near-duplicates of events in slower partitions would be missed after every restart.
        held: list[Record] = []
        old: list[Record] = []
        while not self._reading.ends and self._remaining(progress.judged):
            if len(held) > self._settings.max_held_back:
                log.warning(
                    "the partitions are too far apart to judge in order; some verdicts miss older events",
                    held_back=len(held),
                )
                break
            old, new = progress.divided(await self._reading.polling.beside(partial(self._remember, old)))
            held += new
        if not self._reading.stopping:
            await self._remember(old)
        if self._reading.ends:
            return  # what is held back would be judged against half a memory; the next run does better
        await self._process(held)
        while not self._reading.ends and self._remaining(progress.end_offsets):
            await self._process(await self._reading.polling.poll())
        if not self._reading.ends:
            if self._saving is not None:
                self._saving.caught_up()
            self._phase = "following"
            self._times.restore_ends(current_time())
            log.info("caught up", vectors=len(self._state.judge.index), space=self.space.id)

    async def _take_up(self) -> None:
        """Read on from where both the store and the verdicts are: what is judged again is written again, and what the
        store misses, all of it where it is new, is written without being judged."""
        has_learned = self._has_learned or (self._saving is not None and self._saving.statistics().loaded)
        self._has_learned = True
        with suppress(Abandoned):  # stopping: nothing will be read
            stored = await self._state.take_up(self._changelog.positions(), has_learned=has_learned)
            self._changelog.seek(self._progress.to_go_on_from(stored))

    async def _follow(self, tasks: TaskGroup) -> None:
        async with aclosing(self._reading.batches(tasks)) as batches:
            async for batch in batches:
                await self._process(batch)

    async def _hand_over(self) -> None:
        """Partitions go to others, or come from them: what was begun is finished and committed, if there is time, and
        the store is told, before anybody else may go on with them."""
        with move_on_after(self._settings.drain_timeout), suppress(Abandoned):
            await self._commits.until_committed(self._progress.remembered)
            await self._state.settle(self._progress)
        await self._changelog.change()

    async def _process(self, records: Sequence[Record]) -> None:
        """Remember, judge and publish, in order; waits while too many verdicts are unacknowledged."""
        for batch in self._batches(records, self._settings.batch_events):
            messages = await self._apply(batch)
            if messages is None:
                return
            sent = current_time()
            acknowledged = await self._sink.send(messages) if messages else None
            for message in messages:
                self.live.send(message.value or b"")
            _, new = self._progress.divided(batch)
            if new:
                offsets = {record.tp: record.offset + 1 for record in new}
                times = [record.timestamp for record in new]
                await self._commits.add(acknowledged, offsets, sent, times)

    async def _remember(self, records: Sequence[Record], at_work: Event | None = None) -> None:
        """The same for what an earlier run has judged, of which nothing is to be published or committed."""
        for batch in self._batches(records, _REMEMBERED):
            if await self._apply(batch, at_work) is None:
                return

    def _batches(self, records: Sequence[Record], most: int) -> Iterator[Sequence[Record]]:
        for start in range(0, len(records), most):
            if start and self._reading.stopping:
                return  # the next run does it
            yield records[start : start + most]

    async def _apply(self, batch: Sequence[Record], at_work: Event | None = None) -> list[Message] | None:
        """The verdicts to publish; None where this was not finished."""
        begun = current_time()
        try:
            with self._tracing.span(batch) as span:
                topic = self._settings.verdict_topic
                messages = await self._state.apply(batch, self._progress, topic, span, at_work)
        except Abandoned:
            self._phase = "stopped"  # in the middle of a batch: what was learned is not to be kept
            return None
        done = current_time()
        self._times.judged([record.timestamp for record in batch], done - begun, time.time(), done)
        return messages

    def _remaining(self, until: Offsets) -> int:
        return remaining(until, self._changelog.positions())
