"""Field case 11: events and tombstones of change data capture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import structlog
from structlog.testing import LogCapture

from streamer.core.decoding import Decoder
from streamer.core.events import DeadLetter, Event, Input, Origin, Record, Tombstone, TopicPartition
from streamer.worker.identity import IdentityCheck

TP = TopicPartition("texts", 0)
KEY = b'{"schema": {"type": "struct"}, "payload": {"id": 7}}'
VALUE = orjson.dumps({"payload": {"before": None, "after": {"id": 7, "note": "late"}, "op": "c"}})


@pytest.fixture
def captured() -> Iterator[LogCapture]:
    before, capture = structlog.get_config(), LogCapture()
    structlog.configure(processors=[capture])
    try:
        yield capture
    finally:
        structlog.configure(**before)


def decode(decoder: Decoder, value: bytes | None, key: bytes | None = KEY) -> Input:
    return decoder.decode(Record(TP, 5, key, value, 0), Origin(TP, 5, 1))


@pytest.mark.parametrize(
    "key",
    [KEY, b'{"payload": {"id": "7"}}', b'{"payload.id": 7}', b"\x00\x00\x00\x00\x05" + KEY, b"\xef\xbb\xbf" + KEY],
)
@pytest.mark.parametrize("id_field", ["payload.after.id", None])
def test_row_11_a_tombstone_and_its_event_agree(key: bytes, id_field: str | None) -> None:
    """Field case 11."""
    decoder = Decoder(text_field="payload.after.note", id_field=id_field, key_field="payload.id")
    event, tombstone = decode(decoder, VALUE, key), decode(decoder, None, key)
    assert isinstance(event, Event)
    assert isinstance(tombstone, Tombstone)
    assert (event.id, tombstone.id) == ("7", "7")


@pytest.mark.parametrize("key", [b"7", b"{broken", b'{"payload": {}}', b'{"payload": {"id": [7]}}', b"\xff"])
def test_row_11_a_key_without_the_field_is_a_dead_letter_that_names_the_setting(key: bytes) -> None:
    letter = decode(Decoder(key_field="payload.id"), None, key)
    assert isinstance(letter, DeadLetter)
    assert "input.key_field" in letter.reason


@pytest.mark.parametrize("order", [(VALUE, None), (None, VALUE)])
def test_row_11_ids_that_differ_are_told_once_and_loudly(captured: LogCapture, order: tuple[Any, Any]) -> None:
    """Field case 11."""
    decoder = Decoder(text_field="payload.after.note", id_field="payload.after.id")
    check = IdentityCheck(decoder)
    for value in (*order, *order):
        check.note([decode(decoder, value)])
    (line,) = captured.entries
    assert line["log_level"] == "error"
    assert "input.key_field" in line["event"]
    assert (line["event_id"], line["id_by_key"], line["tombstone"]) == ("7", '{"id":7}', "texts/0/5")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"id_field": "payload.after.id", "key_field": "payload.id"}, KEY),
        ({"id_field": "payload.after.id"}, b"7"),
        ({"id_field": "payload.after.id"}, None),
        ({}, KEY),
    ],
)
def test_row_11_nothing_is_told_where_they_agree(captured: LogCapture, settings: Any, key: bytes | None) -> None:
    decoder = Decoder(text_field="payload.after.note", **settings)
    check = IdentityCheck(decoder)
    check.note([decode(decoder, VALUE, key)])
    check.note([decode(decoder, None, b"7" if key != KEY else KEY)])
    assert captured.entries == []
