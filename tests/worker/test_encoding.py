from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.decoding import Decoder
from streamer.core.events import (
    DeadLetter,
    EmbeddedEvent,
    Event,
    Headers,
    Message,
    MessageColumns,
    Origin,
    Outcome,
    Record,
    Tombstone,
    TopicPartition,
    message_bytes,
)
from streamer.core.sketch import form_of, sketch
from streamer.core.vectors import Space, unit_rows
from streamer.worker.encoding import Encoder, Form

TP = TopicPartition("texts", 2)
ORIGIN = Origin(TP, 17, 1)
SPACE = Space(provider="onnx", model="mini", dimensions=3)


def record(value: bytes | None, key: bytes | None = b"k1", headers: Headers = ()) -> Record:
    return Record(TP, 17, key, value, 1_700_000_000_123, headers)


def encoder(**settings: Any) -> Encoder:
    return Encoder(space=SPACE, vectors_topic="vectors", dead_letters_topic="dead-letters", **settings)


def embedded(value: bytes, headers: Headers = ()) -> EmbeddedEvent:
    event = Decoder().decode(record(value, headers=headers), ORIGIN)
    assert isinstance(event, Event)
    return EmbeddedEvent(event, unit_rows([[1.0, 2.0, 2.0]])[0], tokens=4, truncated=False, cache_hit=True)


def test_a_json_vector_event() -> None:
    headers = (("traceparent", b"00-abc"), ("content-type", b"text/plain"), ("streamer-space", b"forged"))
    _, message = encoder(include_text=True).encode(
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
        ("streamer-form", form_of("hello")),
        ("content-type", b"application/json"),
    )


def test_a_binary_vector_event() -> None:
    _, message = encoder(format="binary", include_text=True).encode(embedded(b'{"text": "hello", "lang": "en"}'), 0)
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
    _, message = encoder().encode(Tombstone(ORIGIN, record(None), "k1"), 0)
    assert (message.topic, message.key, message.value) == ("vectors", b"k1", None)


def test_a_dead_letter_is_the_original_and_the_reason() -> None:
    original = record(b"\xff", key=b"\xfe", headers=(("h", b"v"),))
    _, message = encoder().encode(DeadLetter(ORIGIN, original, "undecodable", "not UTF-8: é", attempts=2), 99)
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
    leaving, message = encoder(include_text=True, max_bytes=limit).encode(outcome, 0)
    headers = dict(message.headers)
    if message.topic == "dead-letters":
        assert isinstance(leaving, DeadLetter)
        assert leaving.kind == "too_large"
        assert headers["streamer-error-kind"] == b"too_large"
    else:
        assert leaving is outcome
    assert message_bytes(message) <= limit or message.value == b""


@pytest.mark.parametrize("format_", ["json", "binary"])
def test_a_text_that_does_not_fit_is_left_out_of_its_event(format_: Any) -> None:
    outcome = embedded(orjson.dumps({"text": "x" * 3_000}))
    leaving, message = encoder(format=format_, max_bytes=2_000).encode(outcome, 0)
    assert leaving is outcome
    assert b"xxx" not in (message.value or b"")
    assert "streamer-text" not in dict(message.headers)
    _, whole = encoder(format=format_, max_bytes=5_000).encode(outcome, 0)
    assert b"xxx" in (whole.value or b"") + dict(whole.headers).get("streamer-text", b"")


@pytest.mark.parametrize("format_", ["json", "binary"])
@given(
    st.lists(
        st.tuples(
            st.text(max_size=300),
            st.dictionaries(st.text(max_size=3), st.booleans() | st.text(max_size=3), max_size=3),
            st.sampled_from([(), (("h", b"v"),), (("content-type", b"text/json"), ("ü", b""))]),
        ),
        max_size=40,
    ),
    st.sampled_from([800, 1_000_000]),
)
def test_many_events_are_encoded_as_each_of_them_is(
    format_: Any, drawn: list[tuple[str, dict[str, Any], Headers]], limit: int
) -> None:
    rows = [orjson.dumps({**metadata, "text": f"x {text}"}) for text, metadata, _ in drawn]
    outcomes: list[Outcome] = [embedded(row, headers) for row, (*_, headers) in zip(rows, drawn, strict=True)]
    outcomes.append(Tombstone(ORIGIN, record(None), "k1"))
    encoder_ = encoder(format=format_, max_bytes=limit)
    for outcome, message in zip(outcomes, encoder_.whole(outcomes), strict=True):
        leaving, fitting, form = encoder_.fitting(outcome, 0)
        if isinstance(leaving, EmbeddedEvent) and form == Form.WHOLE:
            assert message == fitting
        else:
            assert message is None


def test_events_alike_leave_as_columns() -> None:
    """Of which nothing is taken apart on the way to the broker: that is a quarter of what an event costs."""
    headers = (("traceparent", b"00-abc"), ("content-type", b"text/plain"))
    outcomes: list[Outcome] = [embedded(b'{"text": "%d", "n": %d}' % (n, n), headers) for n in range(40)]
    columns = encoder(format="binary").whole(outcomes)
    assert isinstance(columns, MessageColumns)
    assert columns[3:5] == [encoder(format="binary").encode(outcome, 0)[1] for outcome in outcomes[3:5]]
    columns.instead = lambda place, kind, reason: Message(f"{place} {kind} {reason}", None, None, ())
    instead = columns[-1].instead
    assert instead is not None
    assert instead("too_large", "so") == Message("39 too_large so", None, None, ())


@pytest.mark.parametrize("count", [1, 40])
def test_the_bytes_of_a_vector_are_those_of_its_numbers_wherever_these_lie(count: int) -> None:
    event = embedded(b'{"text": "hello"}')
    numbers = unit_rows([[1.0, 2.0, 2.0]])[0]
    columns = np.array([numbers] * count).T.copy().T  # the numbers of a vector do not lie beside each other
    for vectors in (columns, columns.astype(">f4"), columns.astype(np.float64)):
        outcomes: list[Outcome] = [replace(event, vector) for vector in vectors]
        made = encoder(format="binary").whole(outcomes)
        assert isinstance(made, MessageColumns)
        assert [message.value for message in made if message] == [numbers.tobytes()] * count
        assert made.value_bytes == [len(numbers.tobytes())] * count


def test_vectors_of_different_lengths_do_not_leave_together() -> None:
    event = embedded(b'{"text": "hello"}')
    outcomes: list[Outcome] = [event, replace(event, unit_rows([[1.0, 2.0]])[0])]
    assert encoder(format="binary").whole(outcomes) == [None, None], "each is encoded by itself"


def replace(outcome: EmbeddedEvent, vector: Any) -> EmbeddedEvent:
    return EmbeddedEvent(outcome.event, vector, outcome.tokens, outcome.truncated, outcome.cache_hit)


def test_the_bytes_of_a_json_vector_event() -> None:
    """What stands in the topic stays as it is: consumers may compare bytes."""
    _, message = encoder().encode(embedded(b'{"text": "hello", "lang": "en"}'), 0)
    assert message.value == (
        b'{"id":"k1","vector":[ 0.33333334, 0.66666669, 0.66666669],"model":"mini","space":"%b","dimensions":3,'
        b'"truncated":false,"tokens":4,"cache_hit":true,"source":{"topic":"texts","partition":2,"offset":17,'
        b'"timestamp":1700000000123},"text":"hello","metadata":{"lang":"en"}}' % SPACE.id.encode()
    )
