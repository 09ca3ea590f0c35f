from __future__ import annotations

import base64
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.codec import Decoder, Encoder, message_bytes
from streamer.core.events import (
    DeadLetter,
    EmbeddedEvent,
    Event,
    Headers,
    Input,
    Origin,
    Record,
    Tombstone,
    TopicPartition,
)
from streamer.core.sketch import sketch
from streamer.core.vectors import Space, normalize

TP = TopicPartition("texts", 2)
ORIGIN = Origin(TP, 17, 1)
SPACE = Space(provider="onnx", model="mini", dimensions=3)


def record(value: bytes | None, key: bytes | None = b"k1", headers: Headers = ()) -> Record:
    return Record(TP, 17, key, value, 1_700_000_000_123, headers)


def decode(value: bytes | None, *, key: bytes | None = b"k1", headers: Headers = (), **settings: Any) -> Input:
    return Decoder(**settings).decode(record(value, key, headers), ORIGIN)


def encoder(**settings: Any) -> Encoder:
    return Encoder(space=SPACE, vectors_topic="vectors", dead_letters_topic="dead-letters", **settings)


def embedded(value: bytes, headers: Headers = ()) -> EmbeddedEvent:
    event = decode(value, headers=headers)
    assert isinstance(event, Event)
    return EmbeddedEvent(event, normalize([[1.0, 2.0, 2.0]])[0], tokens=4, truncated=False, cache_hit=True)


@given(st.binary(max_size=200), st.sampled_from(["auto", "json", "text"]), st.none() | st.binary(max_size=5))
def test_any_bytes_decode_to_something_and_never_raise(value: bytes, format_: Any, key: bytes | None) -> None:
    decoded = decode(value, key=key, format=format_)
    assert isinstance(decoded, Event | DeadLetter)
    assert decoded.origin == ORIGIN


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
)
def test_any_json_decodes_to_something_and_never_raises(document: Any) -> None:
    try:
        value = orjson.dumps(document)
    except TypeError:
        return  # lone surrogates have no UTF-8
    assert isinstance(decode(value, format="json", text_field="a.b", id_field="c.d"), Event | DeadLetter)


@given(st.text(min_size=1).filter(lambda t: not t.isspace()))
def test_a_text_survives_both_formats(text: str) -> None:
    try:
        plain = text.encode()
    except UnicodeEncodeError:
        return
    for decoded in (decode(plain, format="text"), decode(orjson.dumps({"text": text}))):
        assert isinstance(decoded, Event)
        assert decoded.text == text


def test_the_id_is_the_field_else_the_key_else_the_position() -> None:
    value = b'{"text": "hello", "order": {"no": 42}}'
    ids = [
        decode(value, id_field="order.no"),
        decode(value, id_field="order.missing"),
        decode(value, key=None),
        decode(value, key=b""),
        decode(value, key=b"\xff\x00"),
        decode(b"hello", key=None, headers=(("ce_id", b"c-9"),)),
        decode(None),
    ]
    assert [i.id for i in ids if isinstance(i, Event | Tombstone)] == [
        "42", "k1", "texts-2-17", "texts-2-17", "0xff00", "c-9", "k1",
    ]  # fmt: skip


def test_nested_text_leaves_the_rest_as_metadata() -> None:
    event = decode(b'{"a": {"b": "hello", "c": 1}, "d": 2}', text_field="a.b")
    assert isinstance(event, Event)
    assert (event.text, event.metadata) == ("hello", {"a": {"c": 1}, "d": 2})


@pytest.mark.parametrize(
    ("value", "settings", "kind", "says"),
    [
        (b"\xff\xfe", {"format": "text"}, "undecodable", "not UTF-8"),
        (b"{half", {"format": "json"}, "undecodable", "not JSON"),
        (b"{half", {}, "undecodable", 'input.format = "text"'),
        (b"[1]", {"format": "json"}, "missing_text", "an array"),
        (b'{"body": "x"}', {}, "missing_text", "no text at 'text'"),
        (b'{"text": 5}', {}, "missing_text", "a number"),
        (b'{"a": "x"}', {"text_field": "a.b"}, "missing_text", "no text at 'a.b'"),
        (b'{"text": " \\n"}', {}, "empty_text", "empty"),
        (b"", {}, "empty_text", "empty"),
        (b"[" * 100_000, {"format": "json"}, "undecodable", "not JSON"),
    ],
)
def test_bad_input_is_a_dead_letter_that_says_why(value: bytes, settings: Any, kind: str, says: str) -> None:
    letter = decode(value, **settings)
    assert isinstance(letter, DeadLetter)
    assert letter.kind == kind
    assert says in letter.reason


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b"hello", (("ce_specversion", b"1.0"), ("ce_id", b"c-9"), ("content-type", b"text/plain"))),
        (b'{"text": "hello"}', (("ce_specversion", b"1.0"), ("content-type", b"application/json"))),
        (b'{"id": "c-9", "data": {"text": "hello"}}', (("content-type", b"application/cloudevents+json"),)),
        (b'{"id": "c-9", "data": "hello"}', (("content-type", b"application/cloudevents+json; charset=utf-8"),)),
        (
            orjson.dumps({"data_base64": base64.b64encode(b"hello").decode()}),
            (("content-type", b"application/cloudevents+json"),),
        ),
    ],
)
def test_cloud_events_are_unwrapped(value: bytes, headers: Headers) -> None:
    event = decode(value, headers=headers)
    assert isinstance(event, Event)
    assert event.text == "hello"


def test_a_json_vector_event() -> None:
    headers = (("traceparent", b"00-abc"), ("content-type", b"text/plain"), ("streamer-space", b"forged"))
    message = encoder(include_text=True).encode(
        embedded(b'{"text": "hello", "lang": "en"}', headers[:1] + headers[2:]), 0
    )
    assert (message.topic, message.key, message.timestamp) == ("vectors", b"k1", 1_700_000_000_123)
    assert message.value is not None
    body = orjson.loads(message.value)
    assert body.pop("vector") == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert body == {
        "id": "k1", "model": "mini", "space": SPACE.id, "dimensions": 3, "truncated": False, "tokens": 4,
        "cache_hit": True, "text": "hello", "metadata": {"lang": "en"},
        "source": {"topic": "texts", "partition": 2, "offset": 17, "timestamp": 1_700_000_000_123},
    }  # fmt: skip
    assert message.headers == (
        ("traceparent", b"00-abc"),
        ("streamer-space", SPACE.id.encode()),
        ("streamer-model", b"mini"),
        ("streamer-dimensions", b"3"),
        ("streamer-source", b"texts/2/17"),
        ("streamer-sketch", sketch("hello")),
        ("content-type", b"application/json"),
    )


def test_a_binary_vector_event() -> None:
    message = encoder(format="binary", include_text=True).encode(embedded(b'{"text": "hello", "lang": "en"}'), 0)
    assert message.value is not None
    assert len(message.value) == 12
    assert np.frombuffer(message.value, "<f4") == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    headers = dict(message.headers)
    assert headers["content-type"] == b"application/octet-stream"
    assert headers["streamer-tokens"] == b"4"
    assert headers["streamer-cache-hit"] == b"true"
    assert headers["streamer-text"] == b"hello"
    assert orjson.loads(headers["streamer-metadata"]) == {"lang": "en"}


def test_a_tombstone_deletes_the_id_downstream() -> None:
    message = encoder().encode(Tombstone(ORIGIN, record(None), "k1"), 0)
    assert (message.topic, message.key, message.value) == ("vectors", b"k1", None)


def test_a_dead_letter_is_the_original_and_the_reason() -> None:
    original = record(b"\xff", key=b"\xfe", headers=(("h", b"v"),))
    message = encoder().encode(DeadLetter(ORIGIN, original, "undecodable", "not UTF-8: é", attempts=2), 99)
    assert (message.topic, message.key, message.value) == ("dead-letters", b"\xfe", b"\xff")
    assert message.headers == (
        ("h", b"v"),
        ("streamer-error-kind", b"undecodable"),
        ("streamer-error", "not UTF-8: é".encode()),
        ("streamer-attempts", b"2"),
        ("streamer-source", b"texts/2/17"),
        ("streamer-timestamp", b"99"),
    )


@given(st.integers(0, 5_000), st.integers(300, 3_000))
def test_no_message_exceeds_the_limit(text_bytes: int, limit: int) -> None:
    outcome = embedded(orjson.dumps({"text": "x" * (text_bytes + 1)}))
    message = encoder(include_text=True, max_bytes=limit).encode(outcome, 0)
    headers = dict(message.headers)
    if message.topic == "dead-letters":
        assert headers["streamer-error-kind"] == b"too_large"
    assert message_bytes(message) <= limit or message.value == b""
