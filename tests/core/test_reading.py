"""Bytes to text and JSON; how whole records are read stands in the tests of field cases."""

from __future__ import annotations

import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.decoding import Decoder
from streamer.core.events import DeadLetter, Event, Origin, TopicPartition
from streamer.core.reading import (
    MAX_VALUE_BYTES,
    Unreadable,
    clean_text,
    is_blank,
    key_text,
    read_json,
    read_utf8,
    schema_frame,
)
from streamer.testing import record


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (b"\x00\x00\x00\x00\x07{}", 7),
        (b"\x00" * 8 + b"\x09{}", 9),
        (b"\x00" * 9, None),
        (b"{}", None),
        (b"\x00T\x00h", None),
    ],
)
def test_a_frame_names_its_schema(value: bytes, schema: int | None) -> None:
    assert schema_frame(value) == schema


def test_a_text_is_cleaned_and_known_to_be_blank() -> None:
    assert clean_text("\ufefflate \ud83d") == "late \ufffd"
    assert is_blank("\u200b \u3164")
    assert not is_blank("\u200ba")
    with pytest.raises(Unreadable, match="UTF-16"):
        read_utf8("late".encode("utf-16"))


def test_binary_keys_are_spelled_alike_whatever_bytes_they_hold() -> None:
    assert [key_text(n.to_bytes(8, "big")) for n in (42, 200)] == ["0x000000000000002a", "0x00000000000000c8"]
    assert key_text("a\nb é".encode()) == "a\nb é"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values, st.booleans())
def test_whatever_json_is_read_can_be_written(document: Any, ascii_only: bool) -> None:
    try:
        value = json.dumps(document, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return
    read = read_json(value)
    assert orjson.loads(orjson.dumps(read)) == read


def depth_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


brackets = st.text(alphabet='[]{}"\\:,a\n', max_size=12)
documents = st.recursive(
    brackets | st.none() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(brackets, inner, max_size=3),
    max_leaves=12,
)


@given(documents, st.integers(0, 6), st.sampled_from(["", "NaN", "-Infinity", "1e999"]))
def test_the_depth_is_that_of_the_value_whatever_its_strings_hold(value: Any, limit: int, odd: str) -> None:
    """With what only the lenient reading takes, and without."""
    text = json.dumps([value, [0]])
    body = (text[:-3] + odd + "]]" if odd else text).encode()
    depth = max(depth_of(value), 1) + 1
    if depth <= limit:
        expected = [value, [None if odd else 0]]
        assert read_json(body, limit) == expected
    else:
        with pytest.raises(Unreadable, match=f"nested more than {limit} levels"):
            read_json(body, limit)


SIZE = 1 << 20
TP = TopicPartition("texts", 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    [
        bytes(SIZE),
        b" " * SIZE,
        "\u200b".encode() * (SIZE // 3),
        b'{"text": "x", "a": [' + b"[[]]," * (SIZE // 5) + b"1]}",
        b'{"text": "x", "a": [' + b"NaN," * (SIZE // 4) + b"1]}",
        b'{"text": "x", "a": [' + b"1e999," * (SIZE // 6) + b"1]}",
        b'{"text": "' + rb"\ud83d" * (SIZE // 6) + b'"}',
        b'{"text": "' + rb"\"[" * (SIZE // 3) + b'"}',
        b'{"text": "' + b"[" * SIZE,
        b"[" * SIZE,
    ],
    ids=["NULs", "spaces", "zero width", "lists", "NaN", "infinities", "surrogates", "quotes", "half", "open"],
)
def test_megabytes_are_read_in_the_time_of_a_heartbeat(value: bytes) -> None:
    """Meanwhile nothing else happens in the worker: a group gives up members that are silent for long. It took seconds
    a megabyte."""
    began = time.process_time()
    outcome = Decoder().decode(record(TP, 0, value), Origin(TP, 0, 1))
    assert isinstance(outcome, DeadLetter | Event)
    assert time.process_time() - began < 3  # a processor that others use as well is slower


def test_a_value_has_a_largest_size() -> None:
    """Of nothing but zeros, hundreds of megabytes are some kilobytes on the wire."""
    most = b"x" * MAX_VALUE_BYTES
    assert isinstance(Decoder().decode(record(TP, 0, most), Origin(TP, 0, 1)), Event)
    outcome = Decoder().decode(record(TP, 0, most + b"x"), Origin(TP, 0, 1))
    assert isinstance(outcome, DeadLetter)
    assert (outcome.kind, outcome.reason) == ("too_large", "the value has 16777217 bytes, the limit is 16777216")
