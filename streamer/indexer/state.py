"""What an indexer remembers, and the threads that work on it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import structlog
from anyio import Lock
from anyio.to_thread import run_sync

from streamer.core.events import Message, Record
from streamer.core.vector_events import VectorEvent
from streamer.core.vectors import Space
from streamer.core.verdicts import Verdict, encode_verdict
from streamer.cpus import usable_cores
from streamer.indexer.apply import apply_records
from streamer.indexer.index.vector_index import VectorIndex
from streamer.indexer.progress import Progress
from streamer.indexer.recent import RecentVerdicts
from streamer.indexer.searches import Searches
from streamer.indexer.statistics import NO_VERDICTS, counted_as
from streamer.indexer.verdicts.judge import Judge, VerdictPolicy
from streamer.telemetry.histogram import PROBABILITIES, Histogram
from streamer.telemetry.tracing import Span, context_of

log = structlog.get_logger(__name__)

_AHEAD_SECONDS: Final = 3600.0  # that clocks of producers may be ahead of ours

_MOST_FOREIGN_SPACES = 20  # told apart by name; the rest is counted together

Seen = TypeVar("Seen")


class IndexerState:
    """The judge of one vector space. Batches are judged one after the other, in a thread; `searches` go on meanwhile,
    in another.

    `records`, `deletions`, `malformed`, `foreign` (by space), `verdicts` (as `counted_as` says) and `p_values` count
    what came in.
    """

    def __init__(self, space: Space, capacity: int, policy: VerdictPolicy) -> None:
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
        self.judge = self.new_judge()
        self.searches = Searches(lambda: self.judge.index, self._changing)
        self.recent = RecentVerdicts(int(time.time() * 1000))

    def new_judge(self) -> Judge:
        """One that remembers nothing, to be made what another one was and put in the place of `judge`."""
        beside = self._beside if usable_cores() > 1 else None
        return Judge(VectorIndex(self.space.dimensions, self.capacity, self._changing, beside), self.policy)

    async def apply(
        self, records: Sequence[Record], progress: Progress, verdict_topic: str, span: Span | None = None
    ) -> list[Message]:
        """Remember a batch, in order, and judge what is new; the verdicts to publish. `span`: around this work."""
        async with self._judging:
            verdicts, messages = await run_sync(self._apply, records, progress, verdict_topic, span)
        self.recent.add(verdicts, int(time.time() * 1000))
        return messages

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
        self, records: Sequence[Record], progress: Progress, verdict_topic: str, span: Span | None
    ) -> tuple[Sequence[Verdict], list[Message]]:
        self.judge.trust_times_until(int((time.time() + _AHEAD_SECONDS) * 1000))
        applied = apply_records(self.judge, self.space, records, progress.is_new)
        progress.remembered.update({record.tp: record.offset + 1 for record in records})
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
