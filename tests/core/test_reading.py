"""Bytes to text and JSON; how whole records are read stands in the tests of field cases."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.reading import Unreadable, clean_text, is_blank, key_text, read_json, read_utf8, schema_frame


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
