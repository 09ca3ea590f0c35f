"""Outcomes to messages: the formats in which vectors, tombstones and dead letters leave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import orjson

from streamer.core.events import DeadLetter, EmbeddedEvent, Headers, Message, Outcome, Record, Tombstone
from streamer.core.sketch import SKETCH_HEADER, sketch
from streamer.core.vectors import Space

OutputFormat: TypeAlias = Literal["json", "binary"]

MAX_REASON = 500  # characters of an error text that travel in a header


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Outcomes to messages. `max_bytes`: the largest message (key + value + headers) the output topics take; a text
    that would make a vector event larger is left out of it."""

    space: Space
    vectors_topic: str
    dead_letters_topic: str
    format: OutputFormat = "json"
    include_text: bool = True
    include_metadata: bool = True
    max_bytes: int = 1_000_000
    _space_headers: Headers = field(init=False, repr=False)

    def __post_init__(self) -> None:
        space = self.space
        constant = {"space": space.id, "model": space.model, "dimensions": str(space.dimensions)}
        headers = tuple((f"streamer-{name}", value.encode()) for name, value in constant.items())
        object.__setattr__(self, "_space_headers", headers)

    def encode(self, outcome: Outcome, now_ms: int) -> tuple[Outcome, Message]:
        """What leaves, and its message of at most `max_bytes`: in place of a vector event too large for the topic
        leaves a dead letter. `now_ms`: milliseconds since the epoch."""
        if not isinstance(outcome, DeadLetter):
            if isinstance(outcome, EmbeddedEvent):
                message = self._vector(outcome, with_text=self.include_text)
                if self.include_text and message_bytes(message) > self.max_bytes:
                    message = self._vector(outcome, with_text=False)
            else:
                message = self._tombstone(outcome)
            size = message_bytes(message)
            if size <= self.max_bytes:
                return outcome, message
            reason = f"the vector event has {size} bytes, the limit is {self.max_bytes} (kafka.max_message_bytes)"
            outcome = too_large(outcome, reason)
        return outcome, self._dead_letter(outcome, now_ms)

    def _vector(self, outcome: EmbeddedEvent, *, with_text: bool) -> Message:
        event = outcome.event
        record = event.record
        # Of the text as it came: prefixes and truncation are the model's business.
        headers = (*self._headers(record), (SKETCH_HEADER, sketch(event.text)))
        if self.format == "binary":
            value = outcome.vector.astype("<f4", copy=False).tobytes()
            headers += (
                ("content-type", b"application/octet-stream"),
                ("streamer-tokens", str(outcome.tokens).encode()),
                ("streamer-truncated", b"true" if outcome.truncated else b"false"),
                ("streamer-cache-hit", b"true" if outcome.cache_hit else b"false"),
            )
            if with_text:
                headers += (("streamer-text", event.text.encode()),)
            if self.include_metadata and event.metadata:
                headers += (("streamer-metadata", orjson.dumps(event.metadata)),)
        else:
            headers += (("content-type", b"application/json"),)
            body: dict[str, Any] = {
                "id": event.id,
                "vector": outcome.vector,
                "model": self.space.model,
                "space": self.space.id,
                "dimensions": self.space.dimensions,
                "truncated": outcome.truncated,
                "tokens": outcome.tokens,
                "cache_hit": outcome.cache_hit,
                "source": {
                    "topic": record.tp.topic,
                    "partition": record.tp.partition,
                    "offset": record.offset,
                    "timestamp": record.timestamp,
                },
            }
            if with_text:
                body["text"] = event.text
            if self.include_metadata and event.metadata:
                body["metadata"] = event.metadata
            value = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        return Message(self.vectors_topic, event.id.encode(), value, headers, record.timestamp, event.origin)

    def _tombstone(self, outcome: Tombstone) -> Message:
        record = outcome.record
        headers = self._headers(record)
        return Message(self.vectors_topic, outcome.id.encode(), None, headers, record.timestamp, outcome.origin)

    def _dead_letter(self, outcome: DeadLetter, now_ms: int) -> Message:
        record = outcome.record
        headers: Headers = (
            *(h for h in record.headers if not h[0].startswith("streamer-")),
            ("streamer-error-kind", outcome.kind.encode()),
            ("streamer-error", outcome.reason[:MAX_REASON].encode("utf-8", "replace")),
            ("streamer-attempts", str(outcome.attempts).encode()),
            ("streamer-source", source(record)),
            ("streamer-timestamp", str(now_ms).encode()),
        )
        message = Message(self.dead_letters_topic, record.key, record.value, headers, origin=outcome.origin)
        excess = message_bytes(message) - self.max_bytes
        if excess > 0 and record.value is not None:
            # The reason must arrive even when the record is larger than the dead-letter topic allows.
            headers += (("streamer-value-bytes", str(len(record.value)).encode()),)
            kept = max(0, len(record.value) - excess - 64)
            value = record.value[:kept]
            message = Message(self.dead_letters_topic, record.key, value, headers, origin=outcome.origin)
        return message

    def _headers(self, record: Record) -> Headers:
        passed = tuple(h for h in record.headers if h[0] != "content-type" and not h[0].startswith("streamer-"))
        return (*passed, *self._space_headers, ("streamer-source", source(record)))


def source(record: Record) -> bytes:
    """`topic/partition/offset` of a record, as every output carries it."""
    return f"{record.tp}/{record.offset}".encode()


def message_bytes(message: Message) -> int:
    """An upper bound of a message's uncompressed size on the wire.

    Per the record format (v2): length, attributes, timestamp and offset deltas, then a varint before key, value and
    each header's name and value; 40 bytes and 10 per header bound those.
    """
    size = 40 + len(message.key or b"") + len(message.value or b"")
    for name, value in message.headers:
        size += 10 + len(value) + (len(name) if name.isascii() else len(name.encode()))
    return size


def too_large(outcome: EmbeddedEvent | Tombstone, reason: str) -> DeadLetter:
    """What leaves in place of an outcome that its topic does not take."""
    record = outcome.event.record if isinstance(outcome, EmbeddedEvent) else outcome.record
    return DeadLetter(outcome.origin, record, "too_large", reason)
