"""The worker's publishing end: outcomes leave in the order of their release and are complete once acknowledged."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import TypeAlias

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from streamer.core.encoding import MAX_REASON, Encoder, source, too_large
from streamer.core.events import DeadLetter, EmbeddedEvent, Message, Outcome
from streamer.errors import PartitionLost, TooLarge
from streamer.protocols import Acknowledgement, Sink
from streamer.worker.notify import Notify
from streamer.worker.offsets import OffsetTracker

log = structlog.get_logger(__name__)

_Sent: TypeAlias = tuple[Acknowledgement, list[Outcome]]

CHUNK = 500  # outcomes encoded without a pause: about 5 ms of the event loop
UNACKNOWLEDGED_CHUNKS = 16


class Outbox:
    """`counts` by kind of outcome that was published, and `stale`. `advanced` is notified when offsets are complete."""

    def __init__(
        self, sink: Sink, encoder: Encoder, tracker: OffsetTracker, advanced: Notify, *, wall_clock: Callable[[], float]
    ) -> None:
        self._sink = sink
        self._encoder = encoder
        self._tracker = tracker
        self._advanced = advanced
        self._wall_clock = wall_clock
        self._waiting: deque[Outcome] = deque()
        self._released = Notify()
        self.counts: Counter[str] = Counter()

    def add(self, released: Iterable[Outcome]) -> None:
        """In the order in which they are to leave."""
        self._waiting.extend(released)
        if self._waiting:
            self._released.notify()

    async def run(self) -> None:
        """Until cancelled. Raises the first error that is not about single messages or partitions."""
        send, receive = anyio.create_memory_object_stream[_Sent](UNACKNOWLEDGED_CHUNKS)
        async with send, receive, anyio.create_task_group() as tasks:
            tasks.start_soon(self._publish, send)
            tasks.start_soon(self._complete, receive)

    async def _publish(self, acks: MemoryObjectSendStream[_Sent]) -> None:
        """The only sender, so that the order of release is the order on the wire."""
        while True:
            while not self._waiting:
                await self._released.wait()
            leaving: list[tuple[Outcome, Message]] = []
            now_ms = self._now_ms()
            while self._waiting and len(leaving) < CHUNK:
                outcome = self._waiting.popleft()
                if self._tracker.is_current(outcome.origin):
                    leaving.append(self._encoder.encode(outcome, now_ms))
                else:
                    self.counts["stale"] += 1
            acknowledged = await self._sink.send([message for _, message in leaving])
            await acks.send((acknowledged, [outcome for outcome, _ in leaving]))

    async def _complete(self, acks: MemoryObjectReceiveStream[_Sent]) -> None:
        async for acknowledged, outcomes in acks:
            for outcome in await self._published(acknowledged, outcomes):
                self._count(outcome)
                self._tracker.complete(outcome.origin)
            self._advanced.notify()

    async def _published(self, acknowledged: Acknowledgement, outcomes: list[Outcome]) -> list[Outcome]:
        """Those of them that were, a dead letter in place of each that the broker refused."""
        try:
            try:
                await acknowledged()
            except TooLarge as exc:
                await self._bury(outcomes, exc)
        except PartitionLost as exc:
            log.warning("outcomes not published; replaying their partitions", reason=str(exc))
            lost = exc.partitions or {outcome.origin.tp for outcome in outcomes}
            return [outcome for outcome in outcomes if outcome.origin.tp not in lost]
        return outcomes

    async def _bury(self, outcomes: list[Outcome], error: TooLarge) -> None:
        """Put dead letters in the places of what the broker refused. If it refuses those too, the worker ends."""
        letters: list[Message] = []
        for position in sorted(error.positions):
            refused = outcomes[position]
            if isinstance(refused, DeadLetter):
                raise error
            outcomes[position], letter = self._encoder.encode(too_large(refused, str(error)), self._now_ms())
            letters.append(letter)
        await (await self._sink.send(letters))()

    def _count(self, outcome: Outcome) -> None:
        if isinstance(outcome, DeadLetter):
            self.counts["dead_letters"] += 1
            # Equal ones are counted: see logs.lines.
            log.warning(
                "dead letter",
                kind=outcome.kind,
                source=source(outcome.record).decode(),
                reason=outcome.reason[:MAX_REASON],
            )
        elif isinstance(outcome, EmbeddedEvent):
            self.counts["embedded"] += 1
            self.counts["cache_hits"] += outcome.cache_hit
        else:
            self.counts["tombstones"] += 1

    def _now_ms(self) -> int:
        return int(self._wall_clock() * 1000)
