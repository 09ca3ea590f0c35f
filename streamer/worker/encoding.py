"""Outcomes to messages: the formats in which vectors, tombstones and dead letters leave."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import orjson

from streamer.core.events import (
    DeadLetter,
    EmbeddedEvent,
    Event,
    Headers,
    Message,
    Outcome,
    Record,
    Tombstone,
    TopicPartition,
    message_bytes,
)
from streamer.core.sketch import FORM_HEADER, SKETCH_HEADER, form_of, sketch
from streamer.core.vectors import Space
from streamer.errors import DeadLetterKind
from streamer.protocols import Embedding, Rejection
from streamer.worker.descriptions import descriptions
from streamer.worker.json_vectors import JsonText, json_vectors

OutputFormat: TypeAlias = Literal["json", "binary"]

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
_JSON = ("content-type", b"application/json")
_BINARY = ("content-type", b"application/octet-stream")
_BOOLEANS = (b"false", b"true")
_LITTLE = np.dtype("<f4")
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
    _space_headers: Headers = field(init=False, repr=False)
    _about_space: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        space = self.space
        constant = {"space": space.id, "model": space.model, "dimensions": str(space.dimensions)}
        headers = tuple((f"streamer-{name}", value.encode()) for name, value in constant.items())
        object.__setattr__(self, "_space_headers", headers)
        about = orjson.dumps({"model": space.model, "space": space.id, "dimensions": space.dimensions})
        object.__setattr__(self, "_about_space", b",%b" % about[1:-1])

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

    def whole(self, outcomes: Sequence[Outcome]) -> list[Message | None]:
        """The messages of vector events in the form WHOLE, as `fitting` makes them, and for many at a lower cost.

        None for other outcomes and for those that do not fit or cannot be encoded: `fitting` says what becomes of them.
        """
        events = [outcome for outcome in outcomes if isinstance(outcome, EmbeddedEvent)]
        about = iter(descriptions([outcome.event.text for outcome in events]))
        texts = iter(self._vector_texts(events))
        return [
            self._if_it_fits(outcome, next(about), next(texts)) if isinstance(outcome, EmbeddedEvent) else None
            for outcome in outcomes
        ]

    def _vector_texts(self, events: Sequence[EmbeddedEvent]) -> Sequence[JsonText | None]:
        if self.format == "json":
            with suppress(ValueError):  # vectors of several lengths, which is a bug: `fitting` says whose
                return json_vectors([outcome.vector for outcome in events])
        return [None] * len(events)

    def _if_it_fits(
        self, outcome: EmbeddedEvent, described: tuple[bytes, bytes], vector: JsonText | None
    ) -> Message | None:
        try:
            message = self._vector(outcome, (), described, vector)
        except Exception:  # noqa: BLE001  # `fitting` raises it again
            return None
        event, headers = outcome.event, message.headers
        # Without the headers of others, all are short but for text and metadata, which may be the last.
        known = len(message.value or b"") + 5 * len(event.id) + 4 * len(event.text) + len(headers[-1][1])
        if not event.record.headers and known + len(self.space.model) + 2_000 <= self.max_bytes:
            return message
        return message if message_bytes(message) <= self.max_bytes else None

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
            return self._vector(outcome, left_out)
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
            left_out += ("headers",) if any(map(_is_foreign, record.headers)) else ()
        return left_out

    def _vector(
        self,
        outcome: EmbeddedEvent,
        left_out: tuple[str, ...],
        described: tuple[bytes, bytes] | None = None,
        vector: JsonText | None = None,
    ) -> Message:
        """`described`: the text's sketch and form, `vector`: the vector's JSON, where they are known."""
        event = outcome.event
        record = event.record
        # Of the text as it came: prefixes and truncation are the model's business.
        sketched, form = described or (sketch(event.text), form_of(event.text))
        if left_out or record.headers:
            headers = (*self._headers(record, left_out), (SKETCH_HEADER, sketched), (FORM_HEADER, form))
        else:  # nearly always: the same, without a detour
            here = ("streamer-source", b"%b%d" % (_as_path(record.tp), record.offset))
            headers = (*self._space_headers, here, (SKETCH_HEADER, sketched), (FORM_HEADER, form))
        text = event.text if self.include_text and "text" not in left_out else None
        metadata = event.metadata if self.include_metadata and "metadata" not in left_out else None
        if self.format == "binary":
            row = outcome.vector
            value = (row if row.dtype == _LITTLE else row.astype(_LITTLE)).tobytes()
            headers += (
                _BINARY,
                ("streamer-tokens", b"%d" % outcome.tokens),
                ("streamer-truncated", _BOOLEANS[outcome.truncated]),
                ("streamer-cache-hit", _BOOLEANS[outcome.cache_hit]),
            )
            if text is not None:
                headers += (("streamer-text", text.encode()),)
            if metadata:
                headers += (("streamer-metadata", orjson.dumps(metadata)),)
        else:
            headers += (_JSON,)
            value = b"".join(
                (
                    b'{"id":', orjson.dumps(event.id), b',"vector":', vector or json_vectors([outcome.vector])[0],
                    self._about_space,
                    b',"truncated":%b,"tokens":%d,"cache_hit":%b,"source":{%b,"offset":%d,"timestamp":%d}'
                    % (_BOOLEANS[outcome.truncated], outcome.tokens, _BOOLEANS[outcome.cache_hit],
                       _as_json(record.tp), record.offset, record.timestamp),
                    b"" if text is None else b',"text":%b' % orjson.dumps(text),
                    b',"metadata":%b}' % orjson.dumps(metadata) if metadata else b"}",
                )
            )  # fmt: skip
        return Message(self.vectors_topic, event.id.encode(), value, headers, record.timestamp, event.origin)

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
        own = (*self._space_headers, ("streamer-source", source(record)))
        if not left_out and not record.headers:
            return own
        if left_out:
            own += (("streamer-left-out", ", ".join(left_out).encode()),)
        return own if "headers" in left_out else (*filter(_is_foreign, record.headers), *own)


def _is_foreign(header: tuple[str, bytes]) -> bool:
    return header[0] != "content-type" and not header[0].startswith("streamer-")


def _sizes(record: Record) -> Headers:
    """What a dead letter goes without, and how large it is."""
    sizes = {
        "key": len(record.key or b""),
        "value": len(record.value or b""),
        "headers": sum(len(name.encode()) + len(value) for name, value in record.headers),
    }
    left_out = [("streamer-left-out", ", ".join(sizes).encode())]
    return (*left_out, *((f"streamer-{name}-bytes", str(size).encode()) for name, size in sizes.items()))


def source(record: Record) -> bytes:
    """`topic/partition/offset` of a record, as every output carries it."""
    return b"%b%d" % (_as_path(record.tp), record.offset)


@lru_cache(1024)
def _as_path(tp: TopicPartition) -> bytes:
    return f"{tp.topic}/{tp.partition}/".encode()


@lru_cache(1024)
def _as_json(tp: TopicPartition) -> bytes:
    return orjson.dumps({"topic": tp.topic, "partition": tp.partition})[1:-1]


def outcome_of(event: Event, result: Embedding | Rejection) -> Outcome:
    """What becomes of an event, by what the embedder says of its text."""
    if isinstance(result, Embedding):
        return EmbeddedEvent(event, result.vector, result.tokens, result.truncated, result.cache_hit)
    return DeadLetter(event.origin, event.record, result.kind, result.reason, result.attempts)


def dead_letter(outcome: EmbeddedEvent | Tombstone, kind: DeadLetterKind, reason: str) -> DeadLetter:
    """What leaves in place of an outcome that its topic does not take."""
    record = outcome.event.record if isinstance(outcome, EmbeddedEvent) else outcome.record
    return DeadLetter(outcome.origin, record, kind, reason)
