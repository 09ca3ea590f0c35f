"""Envelopes of Kafka Connect's JsonConverter, field case E3; and JSON that was encoded twice."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest

from streamer.core.events import Event, Tombstone
from streamer.core.reading import key_text
from tests.core.values import ENVELOPE, decode, framed, letter_of, text_of

STRUCT = {"type": "struct", "optional": False, "name": "row", "fields": [{"field": "text", "type": "string"}]}


def connect(payload: Any, schema: Any = STRUCT) -> bytes:
    """As Kafka Connect's JsonConverter writes it with schemas.enable."""
    return orjson.dumps({"schema": schema, "payload": payload})


STRING = {"type": "string", "optional": True}


@pytest.mark.parametrize(
    ("value", "settings"),
    [
        (connect({"text": "late", "n": 1}), {}),
        (connect({"text": "late", "n": 1}), {"format": "json"}),
        (connect({"text": "late", "n": 1}), {"text_field": "payload.text"}),
        (connect({"body": "late", "n": 1}), {"text_field": "body"}),
        (connect({"text": "late", "n": 1}, None), {}),
        (connect({"text": "late", "n": 1}, {"type": "map", "keys": STRING, "values": STRING}), {}),
        (framed(connect({"text": "late", "n": 1})), {}),
        (b"\xef\xbb\xbf" + connect({"text": "late", "n": 1}), {}),
        (connect('{"text": "late", "n": 1}', STRING), {}),
        (connect(base64.b64encode(b'{"text": "late", "n": 1}').decode(), {"type": "bytes"}), {}),
    ],
)
def test_row_e3_the_payload_of_a_connect_envelope_is_the_event(value: bytes, settings: Any) -> None:
    """Field case E3."""
    event = decode(value, **settings)
    assert isinstance(event, Event), event
    assert (event.text, event.metadata) == ("late", {"n": 1})


@pytest.mark.parametrize("text_field", ["text", "payload"])
def test_row_e3_a_payload_may_be_the_text_itself(text_field: str) -> None:
    """Field case E3."""
    for value in (connect("late", STRING), connect(base64.b64encode(b"late").decode(), {"type": "bytes"})):
        event = decode(value, text_field=text_field)
        assert isinstance(event, Event), event
        assert (event.text, event.metadata) == ("late", None)


@pytest.mark.parametrize("schema", [STRING, STRUCT, None])
def test_row_e3_a_null_payload_deletes_as_a_null_value_does(schema: Any) -> None:
    event = decode(connect(None, schema), key=connect({"id": 7}), id_field="id", key_field="id")
    assert isinstance(event, Tombstone)
    assert event.id == "7"


@pytest.mark.parametrize(
    "value",
    [
        {"schema": "v1", "payload": {"text": "inner"}},
        {"schema": {"type": "object", "properties": {}}, "payload": {"text": "inner"}},
        {"schema": {"type": ["struct"]}, "payload": {"text": "inner"}},
        {"schema": 3, "payload": None},
        {"schema": STRUCT, "payload": {"text": "inner"}, "sent": 1},
    ],
)
def test_row_e3_fields_of_these_names_alone_make_no_envelope(value: dict[str, Any]) -> None:
    """Field case E3."""
    event = decode(orjson.dumps(value | {"text": "late"}))
    assert isinstance(event, Event)
    assert (event.text, event.metadata) == ("late", value)
    assert letter_of(orjson.dumps(value)).kind == "missing_text"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (connect(["late"], {"type": "array", "items": STRING}), "missing_text"),
        (connect(5, {"type": "int32"}), "missing_text"),
        (connect({"body": "late"}), "missing_text"),
        (connect("!", {"type": "bytes"}), "undecodable"),
        (connect(base64.b64encode(b"\x00\x01PNG").decode(), {"type": "bytes"}), "undecodable"),
        (connect(" ", STRING), "empty_text"),
    ],
)
def test_row_e3_a_payload_without_a_text_is_a_dead_letter(value: bytes, kind: str) -> None:
    assert letter_of(value).kind == kind


@pytest.mark.parametrize("schema", [STRUCT, STRUCT | {"version": 2}, None])
@pytest.mark.parametrize(
    ("payload", "settings", "id"),
    [
        ({"id": 7}, {}, '{"id":7}'),
        ({"id": 7}, {"key_field": "id"}, "7"),
        ({"id": 7}, {"key_field": "payload.id"}, "7"),
        ("k7", {}, "k7"),
        (7, {}, "7"),
        (None, {}, "texts-2-17"),
    ],
)
def test_row_e3_the_id_is_that_of_the_keys_payload_whatever_the_schema(
    payload: Any, settings: Any, id: str, schema: Any
) -> None:
    """Field case E3. Else the ids of all rows would change with a version of the schema."""
    event = decode(b"late", key=connect(payload, schema), **settings)
    assert isinstance(event, Event), event
    assert event.id == id


def test_row_e3_binary_keys_and_the_keys_of_others() -> None:
    assert key_text(connect("AP8=", {"type": "bytes"})) == "0x00ff"
    for key in (b'{"payload":1}', b'{"payload"', b'{"schema":1,"payload":2}', b'"payload"'):
        assert key_text(key) == key.decode()


def test_row_e3_a_cloud_event_may_hold_an_envelope() -> None:
    """As Debezium's converter to CloudEvents makes them; and one may be the payload."""
    data = orjson.loads(connect({"text": "late", "n": 1}))
    for path in ("text", "payload.text", "data.text", "data.payload.text"):
        event = decode(orjson.dumps(ENVELOPE | {"data": data}), key=None, text_field=path)
        assert isinstance(event, Event), event
        assert (event.id, event.text, (event.metadata or {})["n"]) == ("evt-1", "late", 1)
    event = decode(connect(ENVELOPE | {"data": {"text": "late"}}), key=None)
    assert isinstance(event, Event)
    assert (event.id, event.text) == ("evt-1", "late")


@pytest.mark.parametrize("settings", [{}, {"format": "json"}])
@pytest.mark.parametrize(
    "value",
    [json.dumps('{"text": "late", "n": 1}'), json.dumps(' {"n": 1, "text": "late"}'), '"{\\"text\\":\\"late\\"}"'],
)
def test_an_object_that_was_encoded_twice_is_no_prose(value: str, settings: Any) -> None:
    """Of `json.dumps` in a serializer on top of the caller's own; and in the data of a CloudEvent."""
    assert text_of(value.encode(), **settings) == "late"
    cloud = ENVELOPE | {"data": json.loads(value), "datacontenttype": "application/json"}
    assert text_of(orjson.dumps(cloud), **settings) == "late"


@pytest.mark.parametrize("text", ["{not JSON}", '{"body": "x"}', "{}", "{", '["text"]'])
def test_a_string_that_only_looks_like_json_is_the_text(text: str) -> None:
    assert text_of(json.dumps(text).encode()) == text
