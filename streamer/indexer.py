"""The side consumer: reads the vector topic whole, remembers what streamed past, and publishes verdicts.

It restores (loads a snapshot if there is a good one, and reads up to where the topic ended when it started), then
follows. Verdicts are published from the committed offset of each partition on; what lies before it was judged by an
earlier run and is only remembered. A snapshot never holds more than what was committed.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

from anyio import (
    BrokenResourceError,
    CancelScope,
    EndOfStream,
    Event,
    Lock,
    WouldBlock,
    create_memory_object_stream,
    create_task_group,
    sleep,
)
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled
from anyio.streams.memory import MemoryObjectSendStream
from anyio.to_thread import run_sync

from streamer.broadcast import Broadcast
from streamer.core.events import Message, Record
from streamer.core.intake import absorb
from streamer.core.judge import Judge, VerdictPolicy
from streamer.core.notes import Scalar
from streamer.core.progress import Progress, remaining
from streamer.core.similarity import Match, VectorIndex
from streamer.core.snapshot import Cut, Facts, Header, Offsets
from streamer.core.vector_events import VectorEvent
from streamer.core.vectors import Space, Vector
from streamer.core.verdicts import VerdictKind, encode_verdict
from streamer.cores import usable_cores
from streamer.errors import Unreachable
from streamer.indexing.commits import Commits
from streamer.indexing.searches import Searches
from streamer.indexing.snapshots import Snapshots, SnapshotStatistics
from streamer.protocols import Changelog, Sink

_log = logging.getLogger("streamer.indexer")

_POLLED_AHEAD = 4  # what so many polls have brought may wait to be judged
_BETWEEN_POLLS = 0.005  # seconds; a fetch for each single event would cost as much as judging it
_MOST_FOREIGN_SPACES = 20  # told apart by name; the rest is counted together


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexerSettings:
    """`batch_events`: events judged in one go; a search waits only while they are written down. `max_held_back`: events
    kept aside while older ones of other partitions are still being read. `renewal_interval`: all offsets are committed
    anew that often, because brokers forget them, after a week by default. Times in seconds."""

    verdict_topic: str = "verdicts"
    capacity: int = 100_000
    policy: VerdictPolicy = field(default_factory=VerdictPolicy)
    batch_events: int = 64
    max_unacknowledged_batches: int = 32
    max_held_back: int = 10_000
    poll_timeout: float = 0.5
    commit_interval: float = 1.0
    renewal_interval: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexerStatistics:
    """Where the indexer stands. Names that end in `_total` only grow."""

    ready: bool
    space: str
    dimensions: int
    vectors: int
    capacity: int
    vector_bytes: int
    restore_records: int
    restore_remaining: int
    unacknowledged_batches: int
    records_total: int
    deletions_total: int
    malformed_total: int
    searches_total: int
    commit_failures_total: int
    foreign_total: Mapping[str, int] = field(metadata={"label": "space"})
    verdicts_total: Mapping[str, int] = field(metadata={"label": "verdict"})
    live_listeners: int
    live_missed_total: int
    thresholds: Mapping[str, float] = field(metadata={"label": "score"})
    snapshot: SnapshotStatistics | None


class Indexer:
    """One vector space's memory. `run` it once; `search`, `get` and `statistics` at any time meanwhile."""

    def __init__(
        self,
        changelog: Changelog,
        sink: Sink,
        space: Space,
        settings: IndexerSettings,
        snapshots: Snapshots | None = None,
    ) -> None:
        self.space = space
        self._changelog = changelog
        self._sink = sink
        self._settings = settings
        self._snapshots = snapshots
        # Judging is reading, for the greater part. A search goes on meanwhile, in a thread of its own.
        self._changing = threading.Lock()  # held by searches, and by the judge's thread while the index changes
        self._helper = ThreadPoolExecutor(1, "products")  # begins its thread when it is first used
        self._judge = self._new_judge()
        self._judging = Lock()  # held by whoever judges, or wants to see the judge between two batches
        self._searches = Searches(lambda: self._judge.index, self._changing)
        self._progress = Progress()
        self._commits = Commits(
            changelog,
            self._progress,
            most=settings.max_unacknowledged_batches,
            interval=settings.commit_interval,
            renewal=settings.renewal_interval,
        )
        self.live = Broadcast()
        self._stopping = False
        self._caught_up = Event()
        self._state: Literal["not started", "loading the snapshot", "restoring", "following", "stopped"] = "not started"
        self._read_at = 0.0  # when nothing was left unread, by the clock of the snapshots
        self._looked_at: tuple[float, Offsets] = (0.0, {})  # where the topic ended when we looked last
        self._read_and_waiting = 0  # records
        self._records = self._deletions = self._malformed = 0
        self._foreign: Counter[str] = Counter()
        self._verdicts: Counter[str] = Counter(dict.fromkeys(get_args(VerdictKind), 0))

    async def run(self) -> None:
        """Restore, then follow until `stop`. Ends with every verdict acknowledged and its offset committed.

        An error of any part, or of the topic, ends all of it and is raised (in an ExceptionGroup). A bounded batch of
        verdicts since the last commit is then published again by the next run.
        """
        try:
            async with create_task_group() as tasks, self._commits.accepting(tasks):
                await self._restore()
                saving = CancelScope()
                tasks.start_soon(self._save_regularly, saving)
                await self._follow(tasks)
                saving.cancel()
            if self._state == "following":
                await self._save_at_the_end()
        finally:
            self._state = "stopped"
            self.live.close()
            self._helper.shutdown()

    def stop(self) -> None:
        """Make `run` finish what it has begun, and return."""
        self._stopping = True

    async def wait_ready(self) -> None:
        """Until everything that the topic held at the start has been read."""
        await self._caught_up.wait()

    def ready(self) -> str | None:
        """None once restored; else why not, and how far it has come."""
        if self._state != "restoring":
            return None if self._state == "following" else self._state
        total, left = self._progress.restore_records, self._remaining(self._progress.ends)
        return f"restoring: {total - left:,} of {total:,} records read"

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

        `where`: values that an event's metadata must have. A match's note is what is remembered of its event.
        """
        return await self._searches.search(vector, k, min_similarity, exclude, where)

    async def get(self, id: str) -> Vector | None:
        """The vector of an id, None when it is not (or no longer) known."""
        return await self._searches.get(id)

    def statistics(self) -> IndexerStatistics:
        index = self._judge.index
        return IndexerStatistics(
            ready=self.ready() is None,
            space=self.space.id,
            dimensions=index.dimensions,
            vectors=len(index),
            capacity=index.capacity,
            vector_bytes=index.nbytes,
            restore_records=self._progress.restore_records,
            restore_remaining=self._remaining(self._progress.ends),
            unacknowledged_batches=self._commits.unacknowledged,
            records_total=self._records,
            deletions_total=self._deletions,
            malformed_total=self._malformed,
            searches_total=self._searches.total,
            commit_failures_total=self._commits.failures,
            foreign_total=dict(self._foreign),
            verdicts_total=dict(self._verdicts),
            live_listeners=len(self.live),
            live_missed_total=self.live.missed,
            thresholds=self._judge.thresholds(),
            snapshot=None if self._snapshots is None else self._snapshots.statistics(),
        )

    async def _restore(self) -> None:
        progress = self._progress
        ends = await self._changelog.end_offsets()
        for tp in progress.begin(self._changelog.positions(), ends, await self._changelog.committed()):
            _log.warning("verdicts were committed beyond the end of %s/%d; judging it from its beginning", *tp)
        await self._load()
        progress.read_from(self._changelog.positions())
        self._state = "restoring"

        # Partitions are not read in step. What is to be judged waits until all that is older has been remembered,
        # or near-duplicates of events in slower partitions would be missed after every restart.
        held: list[Record] = []
        while not self._stopping and self._remaining(progress.judged):
            if len(held) > self._settings.max_held_back:
                _log.warning("too far behind to keep order: some verdicts will miss older events of other partitions")
                break
            records = await self._poll()
            held += filter(progress.is_new, records)
            await self._process([record for record in records if not progress.is_new(record)])
        if self._stopping:
            return  # what is held back would be judged against half a memory; the next run does better
        await self._process(held)
        while not self._stopping and self._remaining(progress.ends):
            await self._process(await self._poll())
        if not self._stopping:
            self._read_at, _ = self._looked_at
            self._state = "following"
            self._caught_up.set()
            _log.info("caught up: %d vectors of space %s", len(self._judge.index), self.space.id)

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
                self._read_and_waiting -= len(batch)

    async def _read_ahead(self, send: MemoryObjectSendStream[Sequence[Record]]) -> None:
        """While a batch is judged, so that what comes meanwhile is at hand afterwards: the client asks the broker for
        more of a partition only once all that it had of it has been taken."""
        async with send:
            while not self._stopping:
                if records := await self._poll():
                    self._read_and_waiting += len(records)
                    with suppress(BrokenResourceError), self._changelog.resting():  # broken: stopping
                        await send.send(records)
                        await sleep(_BETWEEN_POLLS)

    async def _load(self) -> None:
        if self._snapshots is None:
            return
        self._looked_at = (self._snapshots.clock(), self._progress.ends)
        self._state = "loading the snapshot"
        judge = self._new_judge()
        header = await self._snapshots.load(judge, self._facts(), self._progress.bounds())
        if header is not None:
            self._judge = judge
            self._changelog.seek(header.offsets)

    async def _save_regularly(self, scope: CancelScope) -> None:
        with scope:
            while self._snapshots is not None:
                await sleep(self._snapshots.interval)
                await self._look_at_the_ends(self._snapshots.clock())
                await self._save(self._snapshots)

    async def _save_at_the_end(self) -> None:
        """Everything has been published, and as a rule committed."""
        if self._snapshots is None:
            return
        if self._progress.bounds().uncommitted(self._progress.remembered):
            _log.warning("no snapshot at the end: not all verdict offsets could be committed")
        else:
            await self._save(self._snapshots)

    async def _save(self, snapshots: Snapshots) -> None:
        if snapshots.has(self._progress.remembered, self._read_at):
            return
        async with self._judging:
            cut = await run_sync(self._cut)
        # Verdicts are published from the committed offsets on. With a snapshot ahead of these, those in between would
        # be left out; and the older snapshot, which is not, would be lost.
        await snapshots.save(cut, partial(self._commits.until_committed, cut.header.offsets))

    def _cut(self) -> Cut:
        """In a thread, while nothing is judged: all of one moment. Vectors are taken later, see Held."""
        state, recent = self._judge.state()
        held = self._judge.index.hold()
        header = Header(
            facts=self._facts(), offsets=dict(self._progress.remembered), read_at=self._read_at, vectors=len(held.ids)
        )
        return Cut(header, held, state, recent)

    async def _look_at_the_ends(self, now: float) -> None:
        """Where the topic ends now; and whether all has been read by now that it held at the last look."""
        then, ends = self._looked_at
        if not self._remaining(ends) and not self._read_and_waiting:
            self._read_at = then
            with suppress(Unreachable):  # then the older look is good for another interval
                self._looked_at = (now, await self._changelog.end_offsets())

    def _facts(self) -> Facts:
        policy = self._settings.policy
        return {
            **(self._snapshots.facts if self._snapshots else {}),
            "space": self.space.id,
            "dimensions": self.space.dimensions,
            "index.capacity": self._settings.capacity,
            "index.near_duplicate_similarity": policy.near_duplicate_similarity,
            "index.neighbors": policy.neighbors,
            "index.false_alarm_rate": policy.false_alarm_rate,
            "index.window_seconds": None if policy.window is None else policy.window / 1000,
        }

    def _new_judge(self) -> Judge:
        beside = self._beside if usable_cores() > 1 else None
        index = VectorIndex(self.space.dimensions, self._settings.capacity, self._changing, beside)
        return Judge(index, self._settings.policy)

    def _beside(self, work: Callable[[], object]) -> Callable[[], object]:
        begun = self._helper.submit(work)
        return lambda: begun.cancel() or begun.result()

    async def _poll(self) -> Sequence[Record]:
        # A poll that is cancelled may take records with it. It is short; whoever cancels waits for its end.
        with CancelScope(shield=True):
            records = await self._changelog.poll(self._settings.poll_timeout)
        await checkpoint_if_cancelled()  # idle, the loop would never meet another chance to notice
        return records

    async def _process(self, records: Sequence[Record]) -> None:
        """Remember, judge and publish, in order; waits while too many verdicts are unacknowledged."""
        for start in range(0, len(records), self._settings.batch_events):
            batch = records[start : start + self._settings.batch_events]
            async with self._judging:
                messages = await run_sync(self._absorb, batch)
            acknowledged = await self._sink.send(messages) if messages else None
            for message in messages:
                self.live.send(message.value or b"")
            offsets = {record.tp: record.offset + 1 for record in batch if self._progress.is_new(record)}
            if offsets:
                await self._commits.add(acknowledged, offsets)

    def _absorb(self, records: Sequence[Record]) -> list[Message]:
        """In a thread: remember and judge; the verdicts to publish."""
        absorbed = absorb(self._judge, self.space, records, self._progress.is_new)
        self._progress.remembered.update({record.tp: record.offset + 1 for record in records})
        self._records += len(records)
        self._deletions += absorbed.deletions
        self._malformed += len(absorbed.malformed)
        self._verdicts.update(verdict.verdict for verdict in absorbed.verdicts)
        for record, reason in absorbed.malformed:
            _log.warning("%s/%d/%d is not a vector event: %s", *record.tp, record.offset, reason)
        for event in absorbed.foreign:
            self._refuse(event)
        return [encode_verdict(verdict, self._settings.verdict_topic) for verdict in absorbed.verdicts]

    def _refuse(self, event: VectorEvent) -> None:
        known = event.space in self._foreign or len(self._foreign) < _MOST_FOREIGN_SPACES
        name = event.space if known else "other"
        if name not in self._foreign:
            _log.error(
                "refusing vectors of space %s (model %s): this index is of space %s (model %s); "
                "embed those texts again, or run an index for each space",
                *(event.space, event.model, self.space.id, self.space.model),
            )
        self._foreign[name] += 1

    def _remaining(self, until: Offsets) -> int:
        return remaining(until, self._changelog.positions())
