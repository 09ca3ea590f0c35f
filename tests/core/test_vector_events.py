"""Vector events of both formats, and everything that only looks like one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.events import EmbeddedEvent, Event, Headers, Message, Origin, Record, Tombstone, TopicPartition
from streamer.core.vector_events import (
    BINARY,
    JSON,
    Deletion,
    Malformed,
    TextSource,
    VectorEvent,
    decode_vector_event,
)
from streamer.core.vectors import Space
from streamer.worker.encoding import Encoder
from streamer.worker.vector_messages import OutputFormat

SOURCE = TextSource(TopicPartition("my/texts", 2), 17, 1_700_000_000_000)
VECTOR = np.array([0.6, -0.8, 0.0], np.float32)


def record(value: bytes | None, *, key: bytes | None = b"a-1", headers: Headers = ()) -> Record:
    return Record(TopicPartition("vectors", 0), 5, key, value, 1_700_000_000_000, headers)


def document(**changes: Any) -> bytes:
    whole = {
        "id": "a-1",
        "vector": VECTOR.tolist(),
        "model": "m",
        "space": "0123456789ab",
        "dimensions": 3,
        "truncated": False,
        "tokens": 4,
        "cache_hit": True,
        "source": {"topic": "my/texts", "partition": 2, "offset": 17, "timestamp": 1_700_000_000_000},
    }
    return orjson.dumps({name: value for name, value in (whole | changes).items() if value is not ...})


def binary_headers(**changes: bytes | None) -> Headers:
    headers = {
        "traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "streamer-space": b"0123456789ab",
        "streamer-model": b"m",
        "streamer-dimensions": b"3",
        "streamer-source": b"my/texts/2/17",
        "content-type": BINARY.encode(),
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    return tuple((name, value) for name, value in headers.items() if value is not None)


def reason(record: Record) -> str:
    event = decode_vector_event(record)
    assert isinstance(event, Malformed)
    return event.reason


@pytest.mark.parametrize(
    "sent",
    [
        record(document(), headers=(("content-type", JSON.encode()),)),
        record(document(), headers=(("content-type", b"text/plain"), ("content-type", b"Application/JSON; v=1"))),
        record(document()),
        record(VECTOR.astype("<f4").tobytes(), headers=binary_headers()),
    ],
)
def test_both_formats_say_the_same(sent: Record) -> None:
    event = decode_vector_event(sent)
    assert isinstance(event, VectorEvent)
    assert (event.id, event.space, event.model, event.source) == ("a-1", "0123456789ab", "m", SOURCE)
    assert (str(event.source), event.text, event.metadata) == ("my/texts/2/17", None, None)
    assert event.vector.dtype == np.float32
    assert event.vector.tobytes() == VECTOR.tobytes()


@pytest.mark.parametrize("format", ["json", "binary"])
@pytest.mark.parametrize("included", [True, False])
def test_reads_what_the_worker_writes(format: OutputFormat, included: bool) -> None:
    space = Space(provider="p", model="m", dimensions=3)
    encoder = Encoder(
        space=space,
        vectors_topic="vectors",
        dead_letters_topic="dead-letters",
        format=format,
        include_text=included,
        include_metadata=included,
    )
    text = Record(
        TopicPartition("texts", 2), 17, b"a-1", b"hello", 1_700_000_000_000, (("content-type", b"text/plain"),)
    )
    origin = Origin(text.tp, text.offset, epoch=1)
    _, sent = encoder.encode(
        EmbeddedEvent(
            Event(origin, text, "a-1", "hello", {"a": 1}), VECTOR, tokens=1, truncated=False, cache_hit=False
        ),
        now_ms=0,
    )
    event = decode_vector_event(received(sent))
    assert isinstance(event, VectorEvent)
    assert event.vector.tobytes() == VECTOR.tobytes()
    assert (event.id, event.space, event.model) == ("a-1", space.id, "m")
    assert event.source == TextSource(text.tp, 17, 1_700_000_000_000)
    assert (event.text, event.metadata) == (("hello", {"a": 1}) if included else (None, None))
    assert decode_vector_event(received(encoder.encode(Tombstone(origin, text, "a-1"), now_ms=0)[1])) == Deletion("a-1")


def received(sent: Message) -> Record:
    assert sent.timestamp is not None
    return Record(TopicPartition(sent.topic, 0), 5, sent.key, sent.value, sent.timestamp, sent.headers)


def test_json_may_carry_text_and_metadata_and_need_not_have_a_source() -> None:
    event = decode_vector_event(record(document(text="hello", metadata={"a": 1}, source=...)))
    assert isinstance(event, VectorEvent)
    assert (event.text, event.metadata, event.source) == ("hello", {"a": 1}, None)


def test_the_key_is_the_id_and_json_can_do_without_one() -> None:
    assert [
        event.id
        for key in (b"from key", None)
        if isinstance(event := decode_vector_event(record(document(id="from value"), key=key)), VectorEvent)
    ] == ["from key", "from value"]


def test_a_null_value_deletes() -> None:
    assert decode_vector_event(record(None, key="ü".encode())) == Deletion("ü")
    assert reason(record(None, key=None)) == "a tombstone needs a key"


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (record(b""), "content-type '' is neither"),
        (record(b"{", key=b"a"), "unexpected end"),
        (record(b"[]", headers=(("content-type", JSON.encode()),)), "not a JSON object"),
        (record(document(), headers=(("content-type", b"text/plain"),)), "'text/plain' is neither"),
        (record(document(), key=b"\xff"), "can't decode"),
        (record(document(id=7), key=None), "which event"),
        (record(document(vector=...)), "'vector' is missing"),
        (record(document(space=None)), "'space' is missing"),
        (record(document(dimensions=4)), "3 numbers were sent as a vector of 4"),
        (record(document(vector=[[0.6, 0.8, 0]])), "3 numbers were sent"),
        (record(document(vector=[0.6, "x", 0])), "could not convert"),
        (record(document(vector=[0.6, None, 0])), "no unit vector"),
        (record(document(vector=[1e300, 0, 0])), "no unit vector"),
        (record(document(vector=[0, 0, 0])), "length is 0, not 1"),
        (record(document(vector=[], dimensions=0)), "length is 0, not 1"),
        (record(document(source={"topic": "t"})), "'source' is not"),
        (record(VECTOR.tobytes(), key=None, headers=binary_headers()), "needs a key"),
        (record(VECTOR.tobytes()[:-1], headers=binary_headers()), "buffer size"),
        (record(VECTOR.tobytes()[:-4], headers=binary_headers()), "2 numbers were sent as a vector of 3"),
        (record(VECTOR.astype(">f4").tobytes(), headers=binary_headers()), "length is"),
        (record(np.array([np.nan, 1, 0], "<f4").tobytes(), headers=binary_headers()), "length is nan"),
        (record(np.array([3e38, 3e38, 0], "<f4").tobytes(), headers=binary_headers()), "length is inf"),
        (record(VECTOR.tobytes(), headers=binary_headers(streamer_space=None)), "header streamer-space is missing"),
        (record(VECTOR.tobytes(), headers=binary_headers(streamer_dimensions=b"x")), "invalid literal"),
        (record(VECTOR.tobytes(), headers=binary_headers(streamer_source=b"nonsense")), "unpack"),
    ],
)
def test_bad_records_say_what_is_wrong(sent: Record, words: str) -> None:
    assert words in reason(sent)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["id", "vector", "space", "dimensions", "model", "source", "text", "metadata"])
HEADER_NAMES = st.sampled_from(["content-type", "streamer-space", "streamer-dimensions", "streamer-source"])
HEADER_VALUES = st.sampled_from([JSON.encode(), BINARY.encode(), b"3", b"-1", b"t/0/1"]) | st.binary(max_size=6)


@given(
    st.none() | st.binary(max_size=20) | st.dictionaries(NAMES, JUNK).map(lambda changes: document(**changes)),
    st.none() | st.binary(max_size=4),
    st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=4).map(tuple),
)
def test_any_record_decodes_to_something_and_never_raises(
    value: bytes | None, key: bytes | None, headers: Headers
) -> None:
    event = decode_vector_event(record(value, key=key, headers=headers))
    if isinstance(event, VectorEvent):
        assert abs(np.linalg.norm(event.vector) - 1) < 0.1


def test_a_vector_event_is_fit_for_json() -> None:
    source = TextSource(TopicPartition("texts", 1), 7, 5)
    event = VectorEvent(id="a", vector=np.array([0.6, 0.8], np.float32), space="s", model="m", source=source)
    document = json.loads(json.dumps(event.to_dict()))
    assert document.pop("vector") == pytest.approx([0.6, 0.8])
    assert document == {"id": "a", "model": "m", "space": "s", "dimensions": 2, "source": source.to_dict()}
    assert replace(event, text="hello", metadata={"lang": "en"}).to_dict().keys() - document.keys() == {
        "vector", "text", "metadata",
    }  # fmt: skip
