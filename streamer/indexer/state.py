"""What an indexer remembers, and the threads that work on it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from typing import Final, TypeVar

import structlog
from anyio import Event, Lock
from anyio.to_thread import run_sync

from streamer.core.events import Message, Record, TopicPartition
from streamer.core.vector_events import VectorEvent
from streamer.core.vectors import Space
from streamer.core.verdicts import Verdict, encode_verdict
from streamer.cpus import usable_cores
from streamer.indexer.apply import apply_records
from streamer.indexer.distant.index import DistantIndex
from streamer.indexer.distant.overlay import sourced_payload
from streamer.indexer.distant.patience import Abandoned, Patience
from streamer.indexer.event_index import SearchableEvents
from streamer.indexer.index.vector_index import VectorIndex
from streamer.indexer.progress import Progress
from streamer.indexer.recent import RecentVerdicts
from streamer.indexer.searches import Searches
from streamer.indexer.snapshots.format import Offsets
from streamer.indexer.statistics import NO_VERDICTS, counted_as
from streamer.indexer.verdicts.judge import Judge, VerdictPolicy
from streamer.stores import VectorStore
from streamer.telemetry.histogram import PROBABILITIES, Histogram
from streamer.telemetry.tracing import Span, context_of

log = structlog.get_logger(__name__)

_AHEAD_SECONDS: Final = 3600.0  # that clocks of producers may be ahead of ours

_SAVED_EVERY: Final = 1.0  # seconds: what is written twice after a crash does no harm
_MOST_FOREIGN_SPACES = 20  # told apart by name; the rest is counted together

Seen = TypeVar("Seen")


class IndexerState:
    """The judge of one vector space. Batches are judged one after the other, in a thread; `searches` go on meanwhile,
    in another.

    `store`: where the vectors are kept instead of in this process; judging waits while it is away (`patience`).
    `records`, `deletions`, `malformed`, `foreign` (by space), `verdicts` (as `counted_as` says) and `p_values` count
    what came in.
    """

    def __init__(self, space: Space, capacity: int, policy: VerdictPolicy, store: VectorStore | None = None) -> None:
        self.space = space
        self.capacity = capacity
        self.policy = policy
        self.records = self.deletions = self.malformed = 0
        self.foreign: Counter[str] = Counter()
        self.p_values = Histogram(PROBABILITIES)
        self.verdicts: Counter[str] = Counter(NO_VERDICTS)
        # Judging is reading, for the greater part. A search goes on meanwhile, in a thread of its own.
        self._changing = threading.Lock()  # held by searches, and by the judge's thread while the index changes
        self._helper = ThreadPoolExecutor(1, "products")  # begins its thread when it is first used
        self._judging = Lock()  # held by whoever judges, or wants to see the judge between two batches
        self.patience = Patience()
        self._distant = (
            None
            if store is None
            else DistantIndex(space.dimensions, capacity, store, self.patience.ask, self._changing)
        )
        self._saved_at, self._put_off = 0.0, False
        self.judge = self.new_judge()
        # An index that lies elsewhere locks what it has to, and not while it asks the store.
        self.searches = Searches(self._searched, self._changing if self._distant is None else nullcontext())
        self.recent = RecentVerdicts(int(time.time() * 1000))

    def new_judge(self) -> Judge:
        """One that has learned nothing, to be made what another one was and put in the place of `judge`."""
        if (distant := self._distant) is not None:
            return Judge(distant, self.policy, distant.groups, sourced_payload)
        beside = self._beside if usable_cores() > 1 else None
        return Judge(VectorIndex(self.space.dimensions, self.capacity, self._changing, beside), self.policy)

    async def apply(
        self,
        records: Sequence[Record],
        progress: Progress,
        verdict_topic: str,
        span: Span | None = None,
        at_work: Event | None = None,
    ) -> list[Message]:
        """Remember a batch, in order, and judge what is new; the verdicts to publish. `span`: around this work.
        `at_work`: set when the event loop may go on beside this for a while."""
        loop = asyncio.get_running_loop()

        def decoded() -> None:
            if at_work is not None:
                loop.call_soon_threadsafe(at_work.set)  # which this thread does not wait for, as it would with anyio's

        async with self._judging:
            verdicts, messages = await run_sync(self._apply, records, progress, verdict_topic, span, decoded)
        self.recent.add(verdicts, int(time.time() * 1000))
        return messages

    @property
    def is_distant(self) -> bool:
        """Whether the vectors are kept elsewhere."""
        return self._distant is not None

    async def take_up(self, tps: Collection[TopicPartition], *, has_learned: bool) -> Offsets:
        """Judge events of these partitions from now on; how far the store is with each. One that has not learned
        anything yet learns from the latest events of the store."""
        async with self._judging:
            return await run_sync(self._take_up, tps, has_learned)

    async def idle(self, progress: Progress) -> None:
        """There is nothing to judge: what was put off may be done."""
        if self._put_off:
            async with self._judging:
                with suppress(Abandoned):  # stopping
                    await run_sync(self._write, progress, _SAVED_EVERY)

    async def settle(self, progress: Progress) -> None:
        """Have the store know how far it is: all has been judged."""
        async with self._judging:
            await run_sync(self._write, progress, 0.0)

    async def between_batches(self, look: Callable[[], Seen]) -> Seen:
        """Do something in a thread, while nothing is judged."""
        async with self._judging:
            return await run_sync(look)

    def close(self) -> None:
        """Nothing will be judged any more."""
        self._helper.shutdown()

    def _beside(self, work: Callable[[], object]) -> Callable[[], object]:
        begun = self._helper.submit(work)
        return lambda: begun.cancel() or begun.result()

    def _apply(
        self,
        records: Sequence[Record],
        progress: Progress,
        verdict_topic: str,
        span: Span | None,
        decoded: Callable[[], None],
    ) -> tuple[Sequence[Verdict], list[Message]]:
        self.judge.trust_times_until(int((time.time() + _AHEAD_SECONDS) * 1000))
        if self._distant is not None:
            self.judge.hear_of(self._distant.arrived)
        upto = {record.tp: record.offset + 1 for record in records}
        is_new = progress.is_new if progress.goes_beyond_judged(upto) else None
        applied = apply_records(self.judge, self.space, records, is_new, decoded)
        progress.remembered.update(upto)
        self._write(progress, _SAVED_EVERY)
        self.records += len(records)
        self.deletions += applied.deletions
        self.malformed += len(applied.malformed)
        self.verdicts.update(map(counted_as, applied.verdicts))
        self.p_values.observe_all([v.p_value for v in applied.verdicts if v.p_value is not None])
        for record, reason in applied.malformed:
            topic, partition = record.tp
            source = f"{topic}/{partition}/{record.offset}"
            log.warning("record is not a vector event", source=source, reason=reason)
        for event in applied.foreign:
            self._refuse(event)
        ours = () if span is None else span.headers
        return applied.verdicts, [
            encode_verdict(verdict, verdict_topic, context_of(record.headers) or ours)
            for verdict, record in zip(applied.verdicts, applied.judged, strict=True)
        ]

    def _take_up(self, tps: Collection[TopicPartition], has_learned: bool) -> Offsets:
        if self._distant is None:
            raise AssertionError("an index in memory takes nothing up. This is a bug.")
        reached = self._distant.take_up({tp.partition for tp in tps})
        self.judge.hear_of(self._distant.arrived)
        if not has_learned:
            self.judge.look_back(self._distant.looked_back_on())
        return {tp: reached[tp.partition].offset for tp in tps if tp.partition in reached}

    def _write(self, progress: Progress, interval: float) -> None:
        """What has been remembered, before anything is said about it; and now and then how far that is."""
        if self._distant is None:
            return
        self._distant.flush()
        now = time.monotonic()
        if now - self._saved_at >= interval:
            offsets = {tp.partition: offset for tp, offset in progress.remembered.items()}
            self._distant.save_positions(offsets, self.judge.arrived)
            self._distant.recount()
            self._saved_at = now
        self._put_off = self._saved_at != now

    def _searched(self) -> SearchableEvents:
        return self.judge.index if self._distant is None else self._distant.reader

    def _refuse(self, event: VectorEvent) -> None:
        known = event.space in self.foreign or len(self.foreign) < _MOST_FOREIGN_SPACES
        name = event.space if known else "other"
        if name not in self.foreign:
            log.error(
                "vectors of another space refused; embed their texts again, or run an indexer for each space",
                space=event.space,
                model=event.model,
                index_space=self.space.id,
                index_model=self.space.model,
            )
        self.foreign[name] += 1
