from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.decoding import Decoder
from streamer.core.events import Event, Origin, Record, TopicPartition
from streamer.core.text_fields import move_text, names_in, put_text


@pytest.mark.parametrize(
    ("fields", "source", "target", "moved"),
    [
        ({"id": 1, "body": "x"}, "body", "text", {"id": 1, "text": "x"}),
        ({"text": "x"}, "text", "text", {"text": "x"}),
        ({"body": "x", "text": "x"}, "body", "text", {"text": "x"}),
        ({"a": {"b": "x", "c": 1}}, "a.b", "text", {"a": {"c": 1}, "text": "x"}),
        ({"a.b": "x", "a": {"b": "y"}}, "a.b", "text", {"a": {"b": "y"}, "text": "x"}),
        ({"a.b": "x"}, "a.b", "a.b", {"a": {"b": "x"}}),
        ({"a": {"b": "x"}}, "a.b", "a.b", {"a": {"b": "x"}}),
        ({"body": "x", "data": {"n": 1}}, "body", "data.text", {"data": {"n": 1, "text": "x"}}),
        ({"text": "x"}, "text", "text.body", {"text": {"body": "x"}}),
    ],
)
def test_the_text_moves_and_the_rest_stays(fields: Any, source: str, target: str, moved: Any) -> None:
    before = repr(fields)
    assert move_text(fields, source, target) == moved
    assert repr(fields) == before


@pytest.mark.parametrize(
    ("fields", "source", "target", "says"),
    [
        ({"id": 1, "body": "x"}, "text", "text", "no field 'text'; there are id, body: name one with --text-field"),
        ({}, "text", "text", "there are no fields"),
        ({"text": None}, "text", "text", "'text' is null, not a string"),
        ({"body": "x", "text": "y"}, "body", "text", "'body' cannot be moved to 'text' (input.text_field), because"),
        ({"body": "x", "a": 5}, "body", "a.text", "'a' is a number; rename one of the two"),
    ],
)
def test_what_cannot_be_moved_is_named(fields: Any, source: str, target: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        move_text(fields, source, target)


def test_names_are_bounded() -> None:
    assert names_in({f"n{i}": 0 for i in range(13)}).endswith("n8, n9 and 3 more")
    assert names_in({"x" * 1000: 0}) == "x" * 39 + "…"


NAMES = st.sampled_from(["a", "b", "text"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(".".join)


@given(st.dictionaries(NAMES, st.text() | st.dictionaries(NAMES, st.text())), PATHS, PATHS)
def test_a_worker_reads_what_was_moved(fields: dict[str, Any], source: str, target: str) -> None:
    """Whatever the object and the paths: either it is refused, or the worker finds that very text."""
    try:
        moved = move_text(put_text(fields, source, "the text"), source, target)
    except ValueError:
        return
    record = Record(TopicPartition("t", 0), 0, None, orjson.dumps(moved), 0)
    event = Decoder(text_field=target).decode(record, Origin(record.tp, 0, 1))
    assert isinstance(event, Event)
    assert event.text == "the text"


def test_the_decoder_and_the_mover_agree_on_paths() -> None:
    record = Record(TopicPartition("t", 0), 0, None, b'{"data": {"text": "x", "n": 1}}', 0)
    event = Decoder(text_field="data.text").decode(record, Origin(record.tp, 0, 1))
    assert isinstance(event, Event)
    assert put_text(event.metadata or {}, "data.text", event.text) == {"data": {"text": "x", "n": 1}}
