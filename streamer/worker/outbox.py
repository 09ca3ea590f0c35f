"""The worker's publishing end: outcomes leave in the order of their release and are complete once acknowledged."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias, get_args

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from streamer.core.events import DeadLetter, EmbeddedEvent, Message, Outcome, TopicPartition
from streamer.errors import DeadLetterKind, PartitionLost, without_quotes
from streamer.protocols import Acknowledgement, Sink
from streamer.telemetry.dead_letters import DeadLetterHour
from streamer.worker.encoding import MAX_REASON, Encoder, Form, dead_letter, source
from streamer.worker.notify import Notify
from streamer.worker.offsets import OffsetTracker
from streamer.worker.recent_dead_letters import RecentDeadLetters
from streamer.worker.statistics import FlowTimes

log = structlog.get_logger(__name__)

_Sent: TypeAlias = "tuple[Acknowledgement, list[_Departure], float]"
_Place: TypeAlias = tuple[TopicPartition, int]

CHUNK = 512  # outcomes encoded without a pause, as many as batches have: about 8 ms of the event loop
UNACKNOWLEDGED_CHUNKS = 16


_Refusal: TypeAlias = "Callable[[_Departure, DeadLetterKind, str], Message | None]"


@dataclass(slots=True)
class _Departure:
    """An outcome on its way out, and the form in which it leaves. Both change when the broker refuses it."""

    outcome: Outcome
    form: Form
    refused: _Refusal

    def __call__(self, kind: DeadLetterKind, reason: str) -> Message | None:
        """`Message.instead`."""
        return self.refused(self, kind, reason)


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
        self._waiting: deque[Outcome] = deque()
        self._released = Notify()
        # What the broker refused, with what leaves instead: it is also to be known when the partition is read again.
        self._refused: dict[_Place, tuple[DeadLetterKind, str, Form]] = {}
        self.counts: Counter[str] = Counter()
        self.recent_dead_letters = RecentDeadLetters()
        self.hour = DeadLetterHour()
        self.dead_letters: Counter[str] = Counter(dict.fromkeys(get_args(DeadLetterKind), 0))

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
            leaving = self._departures(self._current())
            messages = self._messages(leaving)
            begun = self._clock()
            acknowledged = await self._sink.send(messages)
            await acks.send((acknowledged, leaving, begun))

    def _current(self) -> list[Outcome]:
        """The next ones to leave, at most CHUNK."""
        chunk = [self._waiting.popleft() for _ in range(min(CHUNK, len(self._waiting)))]
        current = self._tracker.current(chunk)
        self.counts["stale"] += len(chunk) - len(current)
        return current

    def _departures(self, outcomes: list[Outcome]) -> list[_Departure]:
        if self._refused:
            return [self._departure(outcome) for outcome in outcomes]
        return [_Departure(outcome, Form.WHOLE, self._instead) for outcome in outcomes]

    def _departure(self, outcome: Outcome) -> _Departure:
        """In the form that the broker has left over."""
        known = self._refused.get(_place(outcome))
        if known is None:
            return _Departure(outcome, Form.WHOLE, self._instead)
        kind, reason, form = known
        if form >= Form.LETTER and not isinstance(outcome, DeadLetter):
            outcome = dead_letter(outcome, kind, reason)
        return _Departure(outcome, form, self._instead)

    def _messages(self, departures: list[_Departure]) -> list[Message]:
        made = self._encoder.whole([departure.outcome for departure in departures])
        now_ms = self._now_ms()
        messages = []
        for departure, message in zip(departures, made, strict=True):
            if message is None or departure.form != Form.WHOLE:
                messages.append(self._message(departure, now_ms))
            else:
                message.instead = departure
                messages.append(message)
        return messages

    def _message(self, departure: _Departure, now_ms: int) -> Message:
        """Never raises: what cannot be encoded leaves as a dead letter, which can."""
        try:
            encoded = self._encoder.fitting(departure.outcome, now_ms, departure.form)
        except Exception as exc:  # one record must not end the worker, even if this is a bug
            if isinstance(departure.outcome, DeadLetter):
                raise
            log.exception("outcome could not be encoded", source=str(departure.outcome.origin))
            letter = dead_letter(departure.outcome, "unpublishable", f"encoding failed: {exc!r}")
            encoded = self._encoder.fitting(letter, now_ms)
        departure.outcome, message, departure.form = encoded
        message.instead = departure
        return message

    def _instead(self, departure: _Departure, kind: DeadLetterKind, reason: str) -> Message | None:
        lesser = self._encoder.lesser(departure.outcome, departure.form, kind, reason)
        if lesser is None:
            return None
        departure.outcome, departure.form = lesser
        place = _place(departure.outcome)
        log.warning(
            "message refused by the broker", source=f"{place[0]}/{place[1]}", reason=reason, next=departure.form.name
        )
        message = self._message(departure, self._now_ms())
        if self._tracker.is_current(departure.outcome.origin):
            self._refused[place] = (kind, reason, departure.form)
        return message

    async def _complete(self, acks: MemoryObjectReceiveStream[_Sent]) -> None:
        async for acknowledged, departures, begun in acks:
            outcomes = await self._published(acknowledged, departures)
            self._times.published(outcomes, self._clock() - begun, self._wall_clock())
            self._count(outcomes)
            self._tracker.complete(outcomes)
            if self._refused:
                for outcome in outcomes:
                    self._refused.pop(_place(outcome), None)
            self._advanced.notify()

    async def _published(self, acknowledged: Acknowledgement, departures: list[_Departure]) -> list[Outcome]:
        """What was published in the end, instead of what the broker refused."""
        try:
            await acknowledged()
        except PartitionLost as exc:
            log.warning("outcomes not published; their partitions are read again", reason=str(exc))
            lost = exc.partitions or {departure.outcome.origin.tp for departure in departures}
            return [d.outcome for d in departures if d.outcome.origin.tp not in lost]
        return [departure.outcome for departure in departures]

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


def _place(outcome: Outcome) -> _Place:
    return outcome.origin.tp, outcome.origin.offset
