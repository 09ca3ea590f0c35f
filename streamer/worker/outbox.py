"""The worker's publishing end: outcomes leave in the order of their release and are complete once acknowledged."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeAlias

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from streamer.core.encoding import Encoder
from streamer.core.events import DeadLetter, EmbeddedEvent, Message, Outcome
from streamer.errors import PartitionLost, TooLarge
from streamer.protocols import Acknowledgement, Sink
from streamer.worker.notify import Notify
from streamer.worker.offsets import OffsetTracker

log = structlog.get_logger("streamer.pipeline")

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
            messages: list[Message] = []
            outcomes: list[Outcome] = []
            now_ms = int(self._wall_clock() * 1000)
            while self._waiting and len(messages) < CHUNK:
                outcome = self._waiting.popleft()
                if self._tracker.is_current(outcome.origin):
                    messages.append(self._encode(outcome, now_ms))
                    outcomes.append(outcome)
                else:
                    self.counts["stale"] += 1
            await acks.send((await self._sink.send(messages), outcomes))

    async def _complete(self, acks: MemoryObjectReceiveStream[_Sent]) -> None:
        async for acknowledged, outcomes in acks:
            lost: Collection[object] = ()
            try:
                await acknowledged()
            except PartitionLost as exc:
                lost = exc.partitions or {outcome.origin.tp for outcome in outcomes}
                log.warning("outcomes not published; their partitions are read again", reason=str(exc))
            except TooLarge as exc:
                await self._bury([outcomes[position] for position in sorted(exc.positions)], exc)
            for outcome in outcomes:
                if outcome.origin.tp not in lost:
                    self._tracker.complete(outcome.origin)
            self._advanced.notify()

    async def _bury(self, outcomes: Sequence[Outcome], error: TooLarge) -> None:
        """Dead letters for what the broker refused. If it refuses those too, the worker ends."""
        letters = []
        for outcome in outcomes:
            if isinstance(outcome, DeadLetter):
                raise error
            record = outcome.event.record if isinstance(outcome, EmbeddedEvent) else outcome.record
            letters.append(DeadLetter(outcome.origin, record, "too_large", str(error)))
        now_ms = int(self._wall_clock() * 1000)
        await (await self._sink.send([self._encode(letter, now_ms) for letter in letters]))()

    def _encode(self, outcome: Outcome, now_ms: int) -> Message:
        message = self._encoder.encode(outcome, now_ms)
        if message.topic == self._encoder.dead_letters_topic:
            self.counts["dead_letters"] += 1
            why = {name: value.decode() for name, value in message.headers[-6:] if name.startswith("streamer-")}
            log.warning(
                "dead letter",
                kind=why["streamer-error-kind"],
                source=why["streamer-source"],
                reason=why["streamer-error"],
            )
        elif isinstance(outcome, EmbeddedEvent):
            self.counts["embedded"] += 1
            self.counts["cache_hits"] += outcome.cache_hit
        else:
            self.counts["tombstones"] += 1
        return message
