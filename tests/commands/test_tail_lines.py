"""`streamer tail`: one short line a record, or the record as a document, whatever is in it."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.commands.tail import SHOWN, STREAMS, _line, as_document
from streamer.core.events import Headers, Record, TopicPartition


def record(value: object, headers: Headers = (), key: bytes | None = b"id-1") -> Record:
    content = value if isinstance(value, bytes | None) else orjson.dumps(value)
    return Record(TopicPartition("any", 2), 7, key, content, 1_700_000_000_000, headers)


@pytest.mark.parametrize(
    ("stream", "found", "line"),
    [
        ("vectors", record({"vector": [0.5, -0.5], "text": "wet"}), "id-1  [+0.500 -0.500 … 2]  wet"),
        ("vectors", record({"vector": [1] * 9, "cache_hit": True}), "id-1  [+1.000 +1.000 +1.000 +1.000 … 9]  (cache)"),
        ("vectors", record(None), "id-1  deleted"),
        ("verdicts", record({"id": "a", "verdict": "anomaly", "similarity": None}), "a  anomaly"),
        (
            "verdicts",
            record({"id": "b", "verdict": "near_duplicate", "similarity": 0.98765, "duplicate_of": "a"}),
            "b  near_duplicate  0.988  like a",
        ),
        (
            "dead-letters",
            record(b"caf\xe9", (("streamer-error-kind", b"undecodable"), ("streamer-error", b"not UTF-8"))),
            "undecodable  ?  not UTF-8  caf\N{REPLACEMENT CHARACTER}",
        ),
        ("dead-letters", record({"text": ""}), '?  ?  ?  {"text":""}'),
    ],
)
def test_each_record_is_one_short_line(stream: str, found: Record, line: str) -> None:
    assert _line(stream, as_document(found)) == line


def test_long_texts_are_cut_on_the_line_only() -> None:
    document = as_document(record({"vector": [1.0], "text": "x" * 1000}))
    assert _line("vectors", document).count("x") == SHOWN
    assert len(document["value"]["text"]) == 1000
    assert _line("dead-letters", as_document(record(b"x" * 1000))).count("x") == SHOWN


def test_a_binary_vector_is_read_by_its_content_type() -> None:
    headers = (("content-type", b"application/octet-stream"), ("streamer-cache-hit", b"true"))
    document = as_document(record(np.array([0.5, 0.25], "<f4").tobytes(), headers))
    assert document["value"] == {"vector": [0.5, 0.25]}
    assert _line("vectors", document) == "id-1  [+0.500 +0.250 … 2]  (cache)"
    assert (document["key"], document["partition"], document["offset"]) == ("id-1", 2, 7)


@given(st.one_of(st.none(), st.binary()), st.one_of(st.none(), st.binary()), st.binary())
def test_any_dead_letter_can_be_shown_and_is_a_document(key: bytes | None, value: bytes | None, header: bytes) -> None:
    document = as_document(record(value, (("streamer-error", header),), key))
    assert orjson.loads(orjson.dumps(document)) == document
    assert isinstance(_line("dead-letters", document), str)


OCTETS = (("content-type", b"application/octet-stream"),)


@pytest.mark.parametrize("stream", ["vectors", "verdicts"])
@pytest.mark.parametrize(
    "found",
    [
        record({"foo": 1}),
        record(b"prose of a stranger", key=None),
        record([1, 2]),
        record(5),
        record({"vector": "abc", "id": 7, "verdict": "anomaly"}),
        record({"vector": [1, "x"], "id": "a", "verdict": "anomaly", "similarity": "high"}),
        record({"vector": None, "id": "a", "verdict": None, "nearest": 3, "similarity": {}}),
        record(b"\x00\x00\x80", OCTETS),
        record(b"\x1b[2J", (("streamer-text", b"\x1b[2J"),)),
    ],
)
def test_what_a_stranger_has_written_does_not_end_it(stream: str, found: Record) -> None:
    line = _line(stream, as_document(found))
    assert line
    assert line.isprintable()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["id", "vector", "verdict", "similarity", "reason", "text", "events_missing"]),
                        inner, max_size=5), max_leaves=8))  # fmt: skip
def test_nor_any_other_json(value: object) -> None:
    try:
        found = as_document(record(value))
    except TypeError:  # numbers that JSON has not
        return
    for stream in STREAMS:
        assert "\x1b" not in _line(stream, found)


def test_every_stream_has_a_line() -> None:
    assert all(_line(stream, as_document(record(None))) == "id-1  deleted" for stream in STREAMS)
