"""The worker's publishing end: outcomes of a partition leave in the order of their release, and are complete once they
are acknowledged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias, get_args

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from streamer.core.events import DeadLetter, EmbeddedEvent, Message, MessageColumns, Outcome, TopicPartition
from streamer.errors import DeadLetterKind, PartitionLost, without_quotes
from streamer.protocols import Acknowledgement, Sink
from streamer.telemetry.dead_letters import DeadLetterHour
from streamer.worker.encoding import MAX_REASON, Encoder, Form, dead_letter
from streamer.worker.leaving import Leaving
from streamer.worker.notify import Notify
from streamer.worker.offsets import OffsetTracker
from streamer.worker.recent_dead_letters import RecentDeadLetters
from streamer.worker.statistics import FlowTimes
from streamer.worker.vector_messages import source

log = structlog.get_logger(__name__)

_Sent: TypeAlias = "tuple[Acknowledgement, _Chunk, float]"
_Source: TypeAlias = tuple[TopicPartition, int]

# Outcomes, and bytes of their records, that are encoded without a pause: either takes about 10 ms of the event loop.
CHUNK = 1024
CHUNK_BYTES = 1 << 18
UNACKNOWLEDGED_CHUNKS = 16


@dataclass(slots=True)
class _Chunk:
    """Outcomes on their way out, and the forms in which they leave by their places, WHOLE where nothing is said. Both
    change when the broker refuses one."""

    outcomes: list[Outcome]
    forms: dict[int, Form] = field(default_factory=dict)


class Outbox:
    """`counts` by kind of outcome that was published, and `stale`; `dead_letters` by their kind. `advanced` is notified
    when offsets are complete."""

    def __init__(
        self,
        sink: Sink,
        encoder: Encoder,
        tracker: OffsetTracker,
        advanced: Notify,
        times: FlowTimes,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._sink = sink
        self._encoder = encoder
        self._tracker = tracker
        self._advanced = advanced
        self._times = times
        self._clock = clock
        self._wall_clock = wall_clock
        self._leaving = Leaving()
        self._released = Notify()
        # What the broker refused, with what leaves instead: it is also to be known when the partition is read again.
        self._refused: dict[_Source, tuple[DeadLetterKind, str, Form]] = {}
        self.counts: Counter[str] = Counter()
        self.recent_dead_letters = RecentDeadLetters()
        self.hour = DeadLetterHour()
        self.dead_letters: Counter[str] = Counter(dict.fromkeys(get_args(DeadLetterKind), 0))

    def add(self, released: Iterable[Outcome]) -> None:
        """In the order in which they are to leave, of each partition."""
        self._leaving.add(released)
        if self._leaving:
            self._released.notify()

    async def run(self) -> None:
        """Until cancelled. Raises the first error that is not about single messages or partitions."""
        send, receive = anyio.create_memory_object_stream[_Sent](UNACKNOWLEDGED_CHUNKS)
        async with send, receive, anyio.create_task_group() as tasks:
            tasks.start_soon(self._publish, send)
            tasks.start_soon(self._complete, receive)

    async def _publish(self, acks: MemoryObjectSendStream[_Sent]) -> None:
        """The only sender, so that a partition's order of release is its order on the wire."""
        while True:
            while not self._leaving:
                await self._released.wait()
            leaving = self._chunk(self._current())
            messages = self._messages(leaving)
            begun = self._clock()
            acknowledged = await self._sink.send(messages)
            await acks.send((acknowledged, leaving, begun))

    def _current(self) -> list[Outcome]:
        """The next ones to leave: at most CHUNK, fewer where texts are long."""
        as_many = int(CHUNK_BYTES / max(1.0, self._tracker.mean_bytes()))
        chunk = self._leaving.take(max(1, min(CHUNK, as_many)))
        current = self._tracker.current(chunk)
        self.counts["stale"] += len(chunk) - len(current)
        return current

    def _chunk(self, outcomes: list[Outcome]) -> _Chunk:
        """In the forms that the broker has left over."""
        chunk = _Chunk(outcomes)
        if not self._refused:
            return chunk
        for place, outcome in enumerate(outcomes):
            if (known := self._refused.get(_source_of(outcome))) is None:
                continue
            kind, reason, form = known
            if form >= Form.LETTER and not isinstance(outcome, DeadLetter):
                chunk.outcomes[place] = dead_letter(outcome, kind, reason)
            chunk.forms[place] = form
        return chunk

    def _messages(self, chunk: _Chunk) -> Sequence[Message]:
        made = self._encoder.whole(chunk.outcomes)
        if isinstance(made, MessageColumns) and not chunk.forms:
            made.instead = partial(self._instead, chunk)
            return made
        now_ms = self._now_ms()
        messages = []
        for place, message in enumerate(made):
            if message is None or place in chunk.forms:
                message = self._message(chunk, place, now_ms)
            message.instead = partial(self._instead, chunk, place)
            messages.append(message)
        return messages

    def _message(self, chunk: _Chunk, place: int, now_ms: int) -> Message:
        """Never raises: what cannot be encoded leaves as a dead letter, which can."""
        outcome, form = chunk.outcomes[place], chunk.forms.get(place, Form.WHOLE)
        try:
            encoded = self._encoder.fitting(outcome, now_ms, form)
        except Exception as exc:  # one record must not end the worker, even if this is a bug
            if isinstance(outcome, DeadLetter):
                raise
            log.exception("outcome could not be encoded", source=str(outcome.origin))
            letter = dead_letter(outcome, "unpublishable", f"encoding failed: {exc!r}")
            encoded = self._encoder.fitting(letter, now_ms)
        chunk.outcomes[place], message, chunk.forms[place] = encoded
        return message

    def _instead(self, chunk: _Chunk, place: int, kind: DeadLetterKind, reason: str) -> Message | None:
        """`Message.instead` of the one at this place."""
        lesser = self._encoder.lesser(chunk.outcomes[place], chunk.forms.get(place, Form.WHOLE), kind, reason)
        if lesser is None:
            return None
        chunk.outcomes[place], chunk.forms[place] = lesser
        source_ = _source_of(chunk.outcomes[place])
        log.warning(
            "message refused by the broker", source=f"{source_[0]}/{source_[1]}", reason=reason,
            next=chunk.forms[place].name,
        )  # fmt: skip
        message = self._message(chunk, place, self._now_ms())
        message.instead = partial(self._instead, chunk, place)
        if self._tracker.is_current(chunk.outcomes[place].origin):
            self._refused[source_] = (kind, reason, chunk.forms[place])
        return message

    async def _complete(self, acks: MemoryObjectReceiveStream[_Sent]) -> None:
        async for acknowledged, chunk, begun in acks:
            outcomes = await self._published(acknowledged, chunk)
            self._times.published(outcomes, self._clock() - begun, self._wall_clock())
            self._count(outcomes)
            self._tracker.complete(outcomes)
            if self._refused:
                for outcome in outcomes:
                    self._refused.pop(_source_of(outcome), None)
            self._advanced.notify()

    async def _published(self, acknowledged: Acknowledgement, chunk: _Chunk) -> list[Outcome]:
        """What was published in the end, instead of what the broker refused."""
        try:
            await acknowledged()
        except PartitionLost as exc:
            log.warning("outcomes not published; their partitions are read again", reason=str(exc))
            lost = exc.partitions or {outcome.origin.tp for outcome in chunk.outcomes}
            return [outcome for outcome in chunk.outcomes if outcome.origin.tp not in lost]
        return chunk.outcomes

    def _count(self, outcomes: list[Outcome]) -> None:
        hits = [outcome.cache_hit for outcome in outcomes if isinstance(outcome, EmbeddedEvent)]
        letters = [outcome for outcome in outcomes if isinstance(outcome, DeadLetter)]
        self.counts["embedded"] += len(hits)
        self.counts["cache_hits"] += sum(hits)
        self.counts["tombstones"] += len(outcomes) - len(hits) - len(letters)
        for letter in letters:
            self._count_letter(letter)

    def _count_letter(self, letter: DeadLetter) -> None:
        self.dead_letters[letter.kind] += 1
        self.recent_dead_letters.add(letter, self._wall_clock())
        self.hour.add(letter.kind, without_quotes(letter.reason), self._clock())
        # Equal ones are counted: see logs.lines.
        log.warning(
            "dead letter",
            kind=letter.kind,
            source=source(letter.record).decode(),
            reason=letter.reason[:MAX_REASON],
        )

    def _now_ms(self) -> int:
        return int(self._wall_clock() * 1000)


def _source_of(outcome: Outcome) -> _Source:
    return outcome.origin.tp, outcome.origin.offset
