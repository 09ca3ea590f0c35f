"""Values as producers write them, and what a worker reads in them."""

from __future__ import annotations

from typing import Any

from streamer.core.decoding import Decoder
from streamer.core.events import DeadLetter, Event, Headers, Input, Origin, Record, TopicPartition

TP = TopicPartition("texts", 2)
CLOUD = (("content-type", b"application/cloudevents+json"),)
ENVELOPE = {"specversion": "1.0", "id": "evt-1", "source": "/x", "type": "t", "tenant": "acme"}


def decode(value: bytes | None, *, key: bytes | None = b"k1", headers: Headers = (), **settings: Any) -> Input:
    return Decoder(**settings).decode(Record(TP, 17, key, value, 1_700_000_000_123, headers), Origin(TP, 17, 1))


def text_of(value: bytes, headers: Headers = (), **settings: Any) -> str:
    decoded = decode(value, headers=headers, **settings)
    assert isinstance(decoded, Event), decoded
    return decoded.text


def letter_of(value: bytes | None, headers: Headers = (), **settings: Any) -> DeadLetter:
    decoded = decode(value, headers=headers, **settings)
    assert isinstance(decoded, DeadLetter), decoded
    return decoded


def framed(data: bytes, schema: int = 7) -> bytes:
    return b"\x00" + schema.to_bytes(4, "big") + data
