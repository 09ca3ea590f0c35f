from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.core.decoding import Decoder
from streamer.core.events import DeadLetter, Event, Headers, Input, Origin, Record, Tombstone, TopicPartition
from streamer.core.reading import is_blank
from streamer.worker.encoding import MAX_REASON

TP = TopicPartition("texts", 2)
ORIGIN = Origin(TP, 17, 1)


def decode(value: bytes | None, *, key: bytes | None = b"k1", headers: Headers = (), **settings: Any) -> Input:
    return Decoder(**settings).decode(Record(TP, 17, key, value, 1_700_000_000_123, headers), ORIGIN)


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


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(
        lambda t: not is_blank(t) and t.strip() != "null" and t[0] != "\ufeff" and t.strip()[0] not in '"[{'
    )
)
def test_a_text_survives_both_formats(text: str) -> None:
    for decoded in (decode(text.encode()), decode(text.encode(), format="text"), decode(orjson.dumps({"text": text}))):
        assert isinstance(decoded, Event)
        assert decoded.text == text


said = st.sampled_from(["", " ", "hello", "\ufeffhé", "\u200b", "1.0", "x"]) | st.text()
fields = st.sampled_from(["text", "a", "specversion", "payload", "schema", "id", "a.b"])
fields_of = st.dictionaries(fields, st.none() | st.integers(-5, 2**63) | said, max_size=2)
documents = st.builds(lambda text, more: {"text": text, **more}, said | fields_of, fields_of) | fields_of
odd_keys = [b"k1", b"{}", b'{"schema": null, "payload": "x"}', b"a\nb", b"a\0b", b"\xff", b"k" * 5_000]
keys = st.none() | st.binary(max_size=6) | st.sampled_from(odd_keys)
names = st.sampled_from(["content-type", "ce_id", "ce_specversion", "traceparent"])
headers = st.lists(st.tuples(names, st.sampled_from([b"text/plain", b"application/json", b"1.0"])), max_size=2)
odd = st.sampled_from([b"hello", b"", b"{half", b'{"text": "\\ud83d"}', b'{"text": NaN}', None])


@given(
    st.lists(
        st.tuples(
            documents.map(orjson.dumps) | odd,
            keys,
            st.just([]) | headers,
            st.sampled_from([None, None, None, "it was compressed and cannot be read"]),
        )
    ),
    st.just({})
    | st.sampled_from([{"format": "text"}, {"format": "json"}, {"text_field": "a.b"}, {"id_field": "id"}])
    | st.just({"key_field": "payload"}),
)
@example([(b'{"text": "hello"}', key, [], None) for key in (None, b"", *odd_keys)], {})
@example([(b'{"text": "hello"}', b'{"payload": "x"}', [], None)], {"key_field": "payload"})
@example([(b'{"text": "hello"}', b"k1", [], "it was compressed and cannot be read")], {})
@example([(orjson.dumps({"text": text}), b"k1", [], None) for text in ("\ufeffhé", "\u200b", " ", "")], {})
@example([(b'{"payload": "hello", "schema": null}', b"k1", [], None)], {"text_field": "payload"})
@example(
    [
        (
            b'{"text": "hello", "specversion": "1.0", "id": "a", "source": "s", "type": "t", "data": {"n": 1}}',
            b"k1",
            [],
            None,
        )
    ],
    {},
)
def test_many_records_decode_as_each_of_them_does_the_long_way(read: list[Any], settings: Any) -> None:
    decoder = Decoder(**settings)
    records = [Record(TP, n, key, value, 0, tuple(headers), why) for n, (value, key, headers, why) in enumerate(read)]
    origins = [Origin(TP, n, 1) for n in range(len(records))]
    one_by_one = list(map(decoder.decode, records, origins))
    assert decoder.decode_all(records, origins) == one_by_one
    assert one_by_one == list(map(decoder._unusual, records, origins))


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
        (
            b'{"id": 1, "body": "x", "stars": 4}',
            {},
            "missing_text",
            "no text at 'text'; the record has id, body, stars: set input.text_field",
        ),
        (b"{}", {}, "missing_text", "the record has no fields"),
        (b'{"text": 5}', {}, "missing_text", "a number"),
        (b'{"a": "x"}', {"text_field": "a.b"}, "missing_text", "no text at 'a.b'; the record has a: set"),
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


def test_the_reason_names_fields_but_no_values_and_fits_into_its_header() -> None:
    letter = decode(orjson.dumps({f"{'n' * 100}{i}": "secret" for i in range(1000)}))
    assert isinstance(letter, DeadLetter)
    assert "secret" not in letter.reason
    assert "and 990 more: set input.text_field" in letter.reason
    assert len(letter.reason) <= MAX_REASON


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


fields = st.sampled_from(["text", "a", "id", "specversion", "data", "source", "type", "payload", "schema"])
inner = st.none() | st.integers(0, 9) | st.text(max_size=8) | st.sampled_from([" ", "\ufeffx", "1.0"])
objects = st.dictionaries(fields, inner | st.dictionaries(fields, inner, max_size=2), max_size=5)
telling = st.tuples(
    st.sampled_from(["content-type", "ce_id", "ce_specversion", "ce_type", "traceparent"]),
    st.sampled_from([b"1.0", b"text/plain", b"application/json", b"application/cloudevents+json"]),
)


@given(
    objects.map(orjson.dumps) | objects.map(lambda o: orjson.dumps(o)[:-1]),
    st.none() | st.binary(max_size=3) | st.just(b'{"id": "k"}'),
    st.lists(telling, max_size=2).map(tuple),
    st.fixed_dictionaries(
        {},
        optional={
            "format": st.sampled_from(["auto", "json", "text"]),
            "text_field": st.sampled_from(["text", "a", "data", "data.text", "payload", "payload.text"]),
            "id_field": st.just("id"),
            "key_field": st.just("id"),
        },
    ),
)
def test_the_short_way_leads_where_the_long_one_does(
    value: bytes, key: bytes | None, headers: Headers, settings: dict[str, Any]
) -> None:
    short = decode(value, key=key, headers=headers, **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoder, "_usual", lambda *_: None)
        assert decode(value, key=key, headers=headers, **settings) == short
