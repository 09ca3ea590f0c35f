"""Outcomes to messages: the formats in which vectors, tombstones and dead letters leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from streamer.core.events import (
    DeadLetter,
    EmbeddedEvent,
    Event,
    Headers,
    Message,
    MessageColumns,
    Outcome,
    Record,
    Tombstone,
    message_bytes,
)
from streamer.core.vectors import Space
from streamer.errors import DeadLetterKind
from streamer.protocols import Embedding, Rejection
from streamer.worker.vector_messages import OutputFormat, VectorMessages, is_foreign, source

MAX_REASON = 500  # characters of an error text that travel in a header


LEAST_REASON = 100
MOST_KEY_BYTES = 1000


class Form(IntEnum):
    """How much of an outcome its message holds, from all of it to what must be told at the least."""

    WHOLE = 0  # a vector event or a tombstone
    TEXTLESS = 1
    BARE = 2  # without text, metadata and the headers of others
    LETTER = 3  # a dead letter: the original, its value cut where it is too long
    KEYED = 4  # with its coordinates as the key if it has none, for topics that are compacted
    SHORT = 5  # without value and headers of the original, its key cut
    LEAST = 6  # with its coordinates as the key, for certain


EVENTS = (Form.WHOLE, Form.TEXTLESS, Form.BARE)
LETTERS = (Form.LETTER, Form.KEYED, Form.SHORT, Form.LEAST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Outcomes to messages. `max_bytes`: the largest message (key + value + headers) the output topics take; a text
    that would make a vector event larger is left out of it, and if that is not enough, metadata and foreign headers."""

    space: Space
    vectors_topic: str
    dead_letters_topic: str
    format: OutputFormat = "json"
    include_text: bool = True
    include_metadata: bool = True
    max_bytes: int = 1_000_000
    _vectors: VectorMessages = field(init=False, repr=False)

    def __post_init__(self) -> None:
        vectors = VectorMessages(
            space=self.space, topic=self.vectors_topic, format=self.format,
            include_text=self.include_text, include_metadata=self.include_metadata,
        )  # fmt: skip
        object.__setattr__(self, "_vectors", vectors)

    def encode(self, outcome: Outcome, now_ms: int) -> tuple[Outcome, Message]:
        """What leaves, and its message of at most `max_bytes`: in place of a vector event that is too large even
        without text, metadata and foreign headers leaves a dead letter. `now_ms`: milliseconds since the epoch."""
        outcome, message, _ = self.fitting(outcome, now_ms)
        return outcome, message

    def fitting(self, outcome: Outcome, now_ms: int, form: Form = Form.WHOLE) -> tuple[Outcome, Message, Form]:
        """As `encode`, and the form of the message: the first one from `form` on that is small enough, or the last."""
        if not isinstance(outcome, DeadLetter):
            size = 0
            for possible in EVENTS:
                if possible >= form:
                    message = self._event(outcome, possible)
                    size = message_bytes(message)
                    if size <= self.max_bytes:
                        return outcome, message, possible
            reason = f"the vector event has {size} bytes, the limit is {self.max_bytes} (kafka.max_message_bytes)"
            outcome = dead_letter(outcome, "too_large", reason)
        for possible in LETTERS:
            if possible >= form:
                message = self._dead_letter(outcome, now_ms, possible)
                if message_bytes(message) <= self.max_bytes:
                    return outcome, message, possible
        return outcome, self._dead_letter(outcome, now_ms, Form.LEAST), Form.LEAST

    def whole(self, outcomes: Sequence[Outcome]) -> MessageColumns | list[Message | None]:
        """The messages of vector events in the form WHOLE, as `fitting` makes them, and for many at a lower cost.

        None for other outcomes and for those that do not fit or cannot be encoded: `fitting` says what becomes of them.
        """
        messages: list[Message | None] = [None] * len(outcomes)
        places = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, EmbeddedEvent)]
        events = [outcome for outcome in outcomes if isinstance(outcome, EmbeddedEvent)]
        try:
            groups = list(self._vectors.made_of(events)) if events else []
        except Exception:  # noqa: BLE001  # one of them cannot be encoded: `fitting` raises it again
            return messages
        for chosen, columns in groups:
            fits = _longest(columns) <= self.max_bytes
            if fits and len(columns) == len(outcomes):
                return columns  # nearly always
            for place, message in zip(chosen, columns, strict=True):
                if fits or message_bytes(message) <= self.max_bytes:
                    messages[places[place]] = message
        return messages

    def lesser(self, outcome: Outcome, form: Form, kind: DeadLetterKind, reason: str) -> tuple[Outcome, Form] | None:
        """What to try after the broker has refused this outcome in this form; None after the least of all."""
        if isinstance(outcome, DeadLetter):
            following = LETTERS[LETTERS.index(form) + 1 :]
            if following and following[0] == Form.KEYED and outcome.record.key:
                following = following[1:]
            return (outcome, following[0]) if following else None
        for possible in EVENTS[form + 1 :]:
            if self._left_out(outcome, possible) != self._left_out(outcome, form):
                return outcome, possible
        return dead_letter(outcome, kind, reason), Form.LETTER

    def _event(self, outcome: EmbeddedEvent | Tombstone, form: Form) -> Message:
        left_out = self._left_out(outcome, form)
        if isinstance(outcome, EmbeddedEvent):
            ((_, (message,)),) = self._vectors.made_of([outcome], left_out)
            return message
        record = outcome.record
        headers = self._headers(record, left_out)
        return Message(self.vectors_topic, outcome.id.encode(), None, headers, record.timestamp, outcome.origin)

    def _left_out(self, outcome: EmbeddedEvent | Tombstone, form: Form) -> tuple[str, ...]:
        """What an event goes without in this form."""
        if form == Form.WHOLE:
            return ()
        is_event = isinstance(outcome, EmbeddedEvent)
        left_out: tuple[str, ...] = ("text",) if is_event and self.include_text else ()
        if form == Form.BARE:
            record = outcome.event.record if isinstance(outcome, EmbeddedEvent) else outcome.record
            has_metadata = isinstance(outcome, EmbeddedEvent) and self.include_metadata and outcome.event.metadata
            left_out += ("metadata",) if has_metadata else ()
            left_out += ("headers",) if any(map(is_foreign, record.headers)) else ()
        return left_out

    def _dead_letter(self, outcome: DeadLetter, now_ms: int, form: Form) -> Message:
        record = outcome.record
        source_ = source(record)
        reason = outcome.reason[: MAX_REASON if form < Form.LEAST else LEAST_REASON]
        headers: Headers = (
            ("streamer-error-kind", outcome.kind.encode()),
            ("streamer-error", reason.encode("utf-8", "replace")),
            ("streamer-attempts", str(outcome.attempts).encode()),
            ("streamer-source", source_),
            ("streamer-timestamp", str(now_ms).encode()),
        )
        if form >= Form.SHORT:
            short = (record.key or source_)[:MOST_KEY_BYTES] if form == Form.SHORT else source_
            return Message(self.dead_letters_topic, short, b"", (*headers, *_sizes(record)), origin=outcome.origin)
        key = record.key if form == Form.LETTER else record.key or source_
        headers = (*(h for h in record.headers if not h[0].startswith("streamer-")), *headers)
        message = Message(self.dead_letters_topic, key, record.value, headers, origin=outcome.origin)
        excess = message_bytes(message) - self.max_bytes
        if excess > 0 and record.value is not None:
            # The reason must arrive even when the record is larger than the dead-letter topic allows.
            headers += (("streamer-value-bytes", str(len(record.value)).encode()),)
            value = record.value[: max(0, len(record.value) - excess - 64)]
            message = Message(self.dead_letters_topic, key, value, headers, origin=outcome.origin)
        return message

    def _headers(self, record: Record, left_out: tuple[str, ...]) -> Headers:
        """Of a vector event or a tombstone."""
        own = (*self._vectors.space_headers, ("streamer-source", source(record)))
        if not left_out and not record.headers:
            return own
        if left_out:
            own += (("streamer-left-out", ", ".join(left_out).encode()),)
        return own if "headers" in left_out else (*filter(is_foreign, record.headers), *own)


def _longest(columns: MessageColumns) -> int:
    """A bound of the bytes of each of these messages; `message_bytes` is exact and has to look at each."""
    parts = [columns.keys, *(of for _, of in columns.headers)]
    size = max(columns.value_bytes) + sum(len(of) if isinstance(of, bytes) else max(map(len, of)) for of in parts)
    return 40 + size + sum(10 + len(name.encode()) for name, _ in columns.headers)


def _sizes(record: Record) -> Headers:
    """What a dead letter goes without, and how large it is."""
    sizes = {
        "key": len(record.key or b""),
        "value": len(record.value or b""),
        "headers": sum(len(name.encode()) + len(value) for name, value in record.headers),
    }
    left_out = [("streamer-left-out", ", ".join(sizes).encode())]
    return (*left_out, *((f"streamer-{name}-bytes", str(size).encode()) for name, size in sizes.items()))


def outcome_of(event: Event, result: Embedding | Rejection) -> Outcome:
    """What becomes of an event, by what the embedder says of its text."""
    if isinstance(result, Embedding):
        return EmbeddedEvent(event, result.vector, result.tokens, result.truncated, result.cache_hit)
    return DeadLetter(event.origin, event.record, result.kind, result.reason, result.attempts)


def dead_letter(outcome: EmbeddedEvent | Tombstone, kind: DeadLetterKind, reason: str) -> DeadLetter:
    """What leaves in place of an outcome that its topic does not take."""
    record = outcome.event.record if isinstance(outcome, EmbeddedEvent) else outcome.record
    return DeadLetter(outcome.origin, record, kind, reason)
