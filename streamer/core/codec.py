"""Bytes to events and outcomes to messages: the wire formats, and nothing about when or where they travel."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import orjson

from streamer.core.events import (
    DeadLetter,
    DeadLetterKind,
    EmbeddedEvent,
    Event,
    Headers,
    Input,
    Message,
    Origin,
    Outcome,
    Record,
    Tombstone,
)
from streamer.core.sketch import SKETCH_HEADER, sketch
from streamer.core.vectors import Space

InputFormat: TypeAlias = Literal["auto", "json", "text"]
OutputFormat: TypeAlias = Literal["json", "binary"]

MAX_REASON = 500  # characters of an error text that travel in a header


class _Undecodable(Exception):
    def __init__(self, kind: DeadLetterKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Decoder:
    """Records to inputs. `text_field` and `id_field` are paths into a JSON object; dots reach inside."""

    format: InputFormat = "auto"
    text_field: str = "text"
    id_field: str | None = None

    def decode(self, record: Record, origin: Origin) -> Input:
        """Never raises: what cannot be an Event or a Tombstone is a DeadLetter that says why.

        Event id: `id_field`, else the record key, else the CloudEvents id, else `topic-partition-offset`.
        """
        headers = dict(record.headers)
        if record.value is None:
            return Tombstone(origin, record, _record_id(record, headers))
        try:
            body = self._body(record.value, headers)
            if isinstance(body, str):
                text, metadata, own_id = body, None, None
            else:
                text, metadata = self._text(body)
                own_id = _scalar(_reach(body, self.id_field)) if self.id_field else None
        except _Undecodable as exc:
            return DeadLetter(origin, record, exc.kind, str(exc))
        if not text or text.isspace():
            return DeadLetter(origin, record, "empty_text", "the text is empty or only white space")
        return Event(origin, record, own_id or _record_id(record, headers), text, metadata)

    def _body(self, value: bytes, headers: Mapping[str, bytes]) -> str | dict[str, Any]:
        """The decoded value: plain text, or the JSON object that holds it. CloudEvents are unwrapped."""
        content_type = headers.get("content-type", b"").decode("latin-1").lower()
        if content_type.startswith("application/cloudevents+json"):
            return self._structured(_parse(value))
        if self.format == "text" or (self.format == "auto" and content_type.startswith("text/")):
            return _utf8(value)
        if self.format == "json" or "json" in content_type:
            return _object(_parse(value))
        if value.lstrip()[:1] != b"{":
            return _utf8(value)
        try:
            return _object(_parse(value))
        except _Undecodable as exc:
            # Embedding half a JSON document as if it were prose would hide a broken producer.
            hint = '; it begins like JSON (if the topic holds plain text, set input.format = "text")'
            raise _Undecodable(exc.kind, str(exc) + hint) from exc

    def _structured(self, envelope: Any) -> str | dict[str, Any]:
        envelope = _object(envelope)
        if "data_base64" in envelope:
            try:
                data = base64.b64decode(str(envelope["data_base64"]), validate=True)
            except (binascii.Error, ValueError) as exc:
                raise _Undecodable("undecodable", f"CloudEvents data_base64: {exc}") from exc
            return _object(_parse(data)) if data.lstrip()[:1] == b"{" else _utf8(data)
        data = envelope.get("data")
        if isinstance(data, str):
            return data
        if isinstance(data, dict):
            return data
        raise _Undecodable("missing_text", f"CloudEvents data is {_kind_of(data)}, not a string or an object")

    def _text(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The text, and what the object holds besides it."""
        path = self.text_field.split(".")
        metadata = dict(body)
        inner = metadata
        for name in path[:-1]:
            child = inner.get(name)
            if not isinstance(child, dict):
                raise _Undecodable("missing_text", f"no text at {self.text_field!r}")
            inner[name] = child = dict(child)
            inner = child
        if path[-1] not in inner:
            raise _Undecodable("missing_text", f"no text at {self.text_field!r}")
        text = inner.pop(path[-1])
        if not isinstance(text, str):
            raise _Undecodable("missing_text", f"{self.text_field!r} is {_kind_of(text)}, not a string")
        return text, metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Outcomes to messages. `max_bytes`: the largest message (key + value + headers) the output topics take."""

    space: Space
    vectors_topic: str
    dead_letters_topic: str
    format: OutputFormat = "json"
    include_text: bool = False
    include_metadata: bool = True
    max_bytes: int = 1_000_000
    _space_headers: Headers = field(init=False, repr=False)

    def __post_init__(self) -> None:
        space = self.space
        constant = {"space": space.id, "model": space.model, "dimensions": str(space.dimensions)}
        headers = tuple((f"streamer-{name}", value.encode()) for name, value in constant.items())
        object.__setattr__(self, "_space_headers", headers)

    def encode(self, outcome: Outcome, now_ms: int) -> Message:
        """A message of at most `max_bytes`: a vector event too large for the topic becomes a dead letter."""
        if isinstance(outcome, DeadLetter):
            return self._dead_letter(outcome, now_ms)
        message = self._vector(outcome) if isinstance(outcome, EmbeddedEvent) else self._tombstone(outcome)
        size = message_bytes(message)
        if size > self.max_bytes:
            reason = f"the vector event has {size} bytes, the limit is {self.max_bytes} (kafka.max_message_bytes)"
            origin = outcome.origin
            return self._dead_letter(DeadLetter(origin, _record_of(outcome), "too_large", reason), now_ms)
        return message

    def _vector(self, outcome: EmbeddedEvent) -> Message:
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
            if self.include_text:
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
            if self.include_text:
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
    return f"{record.tp.topic}/{record.tp.partition}/{record.offset}".encode()


def message_bytes(message: Message) -> int:
    """An upper bound of a message's uncompressed size on the wire.

    Per the record format (v2): length, attributes, timestamp and offset deltas, then a varint before key, value and
    each header's name and value; 40 bytes and 10 per header bound those.
    """
    headers = sum(len(name.encode()) + len(value) + 10 for name, value in message.headers)
    return 40 + len(message.key or b"") + len(message.value or b"") + headers


def _record_of(outcome: EmbeddedEvent | Tombstone) -> Record:
    return outcome.event.record if isinstance(outcome, EmbeddedEvent) else outcome.record


def _record_id(record: Record, headers: Mapping[str, bytes]) -> str:
    if record.key:
        try:
            return record.key.decode()
        except UnicodeDecodeError:
            return f"0x{record.key.hex()}"
    if "ce_id" in headers:
        return headers["ce_id"].decode("utf-8", "replace")
    return f"{record.tp.topic}-{record.tp.partition}-{record.offset}"


def _utf8(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise _Undecodable("undecodable", f"not UTF-8: {exc}") from exc


def _parse(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise _Undecodable("undecodable", f"not JSON: {exc}") from exc


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise _Undecodable("missing_text", f"the value is {_kind_of(value)}, not a JSON object")


def _reach(body: Mapping[str, Any], path: str) -> Any:
    value: Any = body
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _scalar(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _kind_of(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
