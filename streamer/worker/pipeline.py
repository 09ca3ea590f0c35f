"""The worker's flow: poll -> decode -> batch -> embed -> release in order -> publish -> complete -> commit.

One task polls and is never cancelled while it owns records; one cuts batches; each batch embeds in a task of its own;
the outbox publishes what the offset tracker releases; one task commits. There is no task, future or queue entry per
event beyond the event itself. An exception in any of them ends them all: half a worker is worse than none.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import compress
from operator import attrgetter
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup

from streamer.core.decoding import Decoder
from streamer.core.events import Event, Outcome, Record, TopicPartition
from streamer.protocols import Embedder, Sink, Source
from streamer.telemetry.dead_letters import DeadLetters
from streamer.telemetry.tracing import ConsumerTracing
from streamer.telemetry.waiting import Waiting
from streamer.worker.batching import Batcher
from streamer.worker.committing import Committing
from streamer.worker.dead_letter_share import DeadLetterShare, Uselessness
from streamer.worker.encoding import Encoder, outcome_of
from streamer.worker.identity import IdentityCheck
from streamer.worker.notify import Notify
from streamer.worker.offsets import OffsetStatistics, OffsetTracker
from streamer.worker.outbox import Outbox
from streamer.worker.settings import PipelineSettings
from streamer.worker.statistics import FlowTimes, PipelineStatistics
from streamer.worker.traced import traced

log = structlog.get_logger(__name__)

_timestamp = attrgetter("timestamp")
_TIMERS: Final = 0.0005  # seconds: event loops know whole milliseconds, and would end a window half of one late


class Pipeline:
    """Runs until `stop()`; tells its consumer-group adapter what to do when partitions come and go (Rebalance)."""

    def __init__(
        self,
        source: Source,
        embedder: Embedder,
        sink: Sink,
        decoder: Decoder,
        encoder: Encoder,
        settings: PipelineSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        tracing: ConsumerTracing | None = None,
    ) -> None:
        self._source = source
        self._embedder = embedder
        self._decoder = decoder
        self._settings = settings
        self.clock = clock
        self._wall_clock = wall_clock
        self.times = FlowTimes()
        self._tracing = tracing or ConsumerTracing()
        self.tracker = OffsetTracker()
        self._batcher = Batcher(settings.batch)
        self._slots = anyio.Semaphore(settings.max_batches, max_value=settings.max_batches, fast_acquire=True)
        self._draining: set[TopicPartition] = set()
        self._stopping = anyio.Event()
        self._joined = False
        self._arrived = Notify()  # events wait in the batcher, or a drain begins
        self._advanced = Notify()  # offsets became complete: room to read, maybe drained
        self._crowded = Notify()  # much is complete and not committed
        self._outbox = Outbox(
            sink, encoder, self.tracker, self._advanced, self.times, clock=clock, wall_clock=wall_clock
        )
        self.recent_dead_letters = self._outbox.recent_dead_letters
        self._committing = Committing(source, self.tracker, self.times, clock, wall_clock)
        self.commit_health = self._committing.health
        self._counts: Counter[str] = Counter()
        self._records = 0
        self._identity = IdentityCheck(decoder)
        self._share = DeadLetterShare()

    # ------------------------------------------------------------------------------------------------ life cycle

    async def run(self) -> None:
        """Process until `stop()`, then drain, commit and return. Raises the first error of any part."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._poll)
            tasks.start_soon(self._batch, tasks)
            tasks.start_soon(self._outbox.run)
            tasks.start_soon(self._commit_regularly)
            await self._stopping.wait()
            await self._drain(self.tracker.partitions)
            tasks.cancel_scope.cancel()

    def stop(self) -> None:
        """Read nothing more, finish what is in flight within the drain time, then let `run` return."""
        self._stopping.set()
        self._arrived.notify()
        self._advanced.notify()

    async def on_assigned(self, tps: Collection[TopicPartition]) -> None:
        """Rebalance: these partitions are ours from their committed offsets on."""
        self._counts["rebalances"] += 1
        self._joined = True
        self.tracker.assign(tps)
        self._advanced.notify()
        log.info("partitions assigned", partitions=_names(tps))

    async def on_revoked(self, tps: Collection[TopicPartition]) -> None:
        """Rebalance: finish and commit what is in flight within the drain time; what finishes later is stale."""
        if tps:
            await self._drain(tps)
            log.info("partitions revoked", partitions=_names(tps))
        self._let_go(tps)

    async def on_lost(self, tps: Collection[TopicPartition]) -> None:
        """These partitions will be read again, by us or by others: what is in flight is stale."""
        self._let_go(tps)
        self._advanced.notify()

    def _let_go(self, tps: Collection[TopicPartition]) -> None:
        self.tracker.revoke(tps)
        self._draining.difference_update(tps)  # or batches would be cut short for ever

    async def _drain(self, tps: Collection[TopicPartition]) -> None:
        self._draining.update(tps)
        self._arrived.notify()
        with anyio.move_on_after(self._settings.drain_timeout) as scope:
            while self.tracker.in_flight(tps):
                await self._advanced.wait()
        if scope.cancelled_caught:
            left, seconds = self.tracker.in_flight(tps), self._settings.drain_timeout
            log.warning("drain timed out; unfinished events will be replayed", seconds=seconds, events=left)
        await self._committing.commit(tps)

    def waiting(self) -> Waiting | None:
        """None when work flows; else what it waits for.

        A worker that turns nearly all records into dead letters is not ready: a rollout of settings that do not fit the
        topic must stop at its first pod, and what watches readiness must see it. Nothing restarts it for that.
        """
        if self._stopping.is_set():
            return Waiting("stopping", "stopping")
        if not self._joined:
            return Waiting("group", "waiting to join the consumer group")
        if (uncommitted := self._held_up_by_commits()) is not None:
            return uncommitted
        return Waiting("dead_letters", str(useless)) if (useless := self._share.problem(self.clock())) else None

    def _held_up_by_commits(self) -> Waiting | None:
        lack, most = self.commit_health.lack(self.clock()), self._settings.max_uncommitted_events
        if lack is None or most is None or self.tracker.most_uncommitted() < most:
            return None
        return replace(lack, text=f"{lack.text}; nothing more is read until they succeed")

    def ready(self) -> str | None:
        """The same as a sentence."""
        return waiting.text if (waiting := self.waiting()) else None

    def offsets(self) -> OffsetStatistics:
        return self.tracker.statistics(self.clock())

    def done(self) -> int:
        """Records whose outcome the brokers have acknowledged, since the start."""
        published = self._outbox.counts
        return published["embedded"] + published["tombstones"] + sum(self._outbox.dead_letters.values())

    def dead_letters_of_the_hour(self) -> list[DeadLetters]:
        return self._outbox.hour.kinds(self.clock())

    def statistics(self) -> PipelineStatistics:
        offsets, published = self.offsets(), self._outbox.counts
        return PipelineStatistics(
            records_total=self._records,
            embedded_total=published["embedded"],
            cache_hits_total=published["cache_hits"],
            tombstones_total=published["tombstones"],
            dead_letters_total=dict(self._outbox.dead_letters),
            stale_total=self._counts["stale"] + published["stale"],
            batches_total=self._counts["batches"],
            commits_total=self._committing.commits,
            commit_failures_total=self._committing.failures,
            rebalances_total=self._counts["rebalances"],
            partitions=offsets.partitions,
            in_flight=offsets.in_flight,
            in_flight_bytes=offsets.in_flight_bytes,
            batches_in_flight=self._settings.max_batches - self._slots.value,
            lowest_unfinished_offset={str(tp): offset for tp, offset in offsets.oldest.items()},
        )

    async def _poll(self) -> None:
        """Backpressure is not asking: a partition with a full window keeps its prefetched records in the client."""
        settings = self._settings
        while not self._stopping.is_set():
            uncommitted = settings.max_uncommitted_events
            if uncommitted is not None and 2 * self.tracker.most_uncommitted() >= uncommitted:
                self._crowded.notify()
            room = self.tracker.with_room(settings.max_in_flight_events, settings.max_in_flight_bytes, uncommitted)
            tps = [tp for tp in room if tp not in self._draining]
            if not tps:
                with anyio.move_on_after(settings.poll_timeout):
                    await self._advanced.wait()
                continue
            self._take(await self._source.poll(tps, settings.poll_timeout))
            # A poll that finds its buffer full returns without yielding; heartbeats need their turn.
            await anyio.lowlevel.checkpoint()

    def _take(self, records: Sequence[Record]) -> None:
        if self._stopping.is_set():
            return  # not tracked, so not committed: read again after the restart
        now = self.clock()
        if records:
            self.times.read(max(map(_timestamp, records)), self._wall_clock(), now)
        if self._draining:  # what arrived meanwhile is read by its next owner
            records = [record for record in records if record.tp not in self._draining]
        origins = self.tracker.track(records, now)
        if not all(origins):  # nothing of what was seen before, or has gone to another worker
            records = [*compress(records, origins)]
        inputs = self._decoder.decode_all(records, filter(None, origins))
        self._records += len(inputs)
        self._identity.note(inputs)
        events = [decoded for decoded in inputs if isinstance(decoded, Event)]
        self._batcher.add_all(events, now)
        if len(events) < len(inputs):
            self._settle([decoded for decoded in inputs if not isinstance(decoded, Event)])
        if len(self._batcher):
            self._arrived.notify()

    async def _batch(self, tasks: TaskGroup) -> None:
        """Reserve a slot first, then cut: while every slot is busy the next batch goes on growing."""
        while True:
            while not len(self._batcher):
                await self._arrived.wait()
            await self._slots.acquire()
            slot_free_since = self.clock()
            while len(self._batcher) and not self._is_due():
                with anyio.move_on_after(max(0.0, self._batcher.deadline - self.clock() - _TIMERS)):
                    await self._arrived.wait()
            now, oldest = self.clock(), self._batcher.oldest
            cut = self._batcher.cut(now, slot_free_since)
            batch = list(self._current(self._batcher.take()))
            if batch:
                self._counts["batches"] += 1
                self.times.cut(cut, len(batch), oldest, slot_free_since, now)
                tasks.start_soon(self._embed, batch)
            else:
                self._slots.release()

    def _is_due(self) -> bool:
        return self._stopping.is_set() or bool(self._draining) or self._batcher.is_due(self.clock() + _TIMERS)

    async def _embed(self, batch: list[Event]) -> None:
        try:
            with self._tracing.span([event.record for event in batch]) as span:
                batch = traced(batch, span)
                results = await self._embedder.embed([event.text for event in batch], "document")
        finally:
            self._slots.release()
        self._settle([outcome_of(event, result) for event, result in zip(batch, results, strict=True)])

    def _current(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            if self.tracker.is_current(event.origin):
                yield event
            else:
                self._counts["stale"] += 1

    def _settle(self, outcomes: Sequence[Outcome]) -> None:
        if self._share.add(outcomes, self.clock()):
            _tell(self._share.problem(self.clock()))
        self._outbox.add(self.tracker.settle(outcomes))

    async def _commit_regularly(self) -> None:
        while True:
            with anyio.move_on_after(self._settings.commit_interval):
                await self._crowded.wait()
            if await self._committing.commit(self.tracker.partitions):
                self._advanced.notify()
            else:
                await anyio.sleep(self._settings.commit_interval)


def _names(tps: Collection[TopicPartition]) -> list[str]:
    return sorted(map(str, tps))


def _tell(useless: Uselessness | None) -> None:
    if useless is None:
        log.info("records have vectors again")
    else:
        log.error("nearly all records end as dead letters", **asdict(useless))
