"""`streamer publish`: lines and rows become messages; what cannot be read is named with its line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.commands.publish import _format_of, _take, read_messages
from streamer.core.events import Message
from streamer.errors import ConfigurationError
from streamer.settings import Settings

LINES = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"])), max_size=20)


def read(text: str, format_: str, *, key: str | None = None, text_field: str = "text") -> list[Message]:
    stream = io.StringIO(text, newline="")
    return [*read_messages(stream, "texts.x", format_, "texts", key_field=key, text_field=text_field)]


@given(LINES, st.sampled_from(["\n", "\r\n"]))
def test_each_line_of_text_is_a_message_and_empty_ones_are_none(lines: list[str], ending: str) -> None:
    messages = read("".join(line + ending for line in lines), "text")
    assert [message.value for message in messages] == [line.encode() for line in lines if line]
    assert all((message.topic, message.key) == ("texts", None) for message in messages)


def test_json_lines_are_sent_as_they_are_with_the_key_that_is_asked_for() -> None:
    lines = ['{"text": "a",  "id": 17}', '{"text": "b"}', '{"id": "ü", "text": "c"}']
    messages = read("\n".join(lines), "jsonl", key="id")
    assert [(message.key, message.value) for message in messages] == [
        (b"17", lines[0].encode()),
        (None, lines[1].encode()),
        ("ü".encode(), lines[2].encode()),
    ]
    assert [message.key for message in read("\n".join(lines), "jsonl")] == [None] * 3


@pytest.mark.parametrize("broken", ["{", "[1]", "7"])
def test_a_line_that_has_no_key_because_it_is_no_object_is_named(broken: str) -> None:
    with pytest.raises(ConfigurationError, match=r"texts\.x:2: not a JSON object, so it has no 'id'"):
        read('{"id": 1}\n' + broken, "jsonl", key="id")
    assert len(read('{"id": 1}\n' + broken, "jsonl")) == 2, "the workers decide, where no key is asked for"


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.integers()), max_size=10))
def test_rows_of_a_table_are_objects_of_its_columns(rows: list[tuple[str, int]]) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerows([("text", "id"), *rows])
    messages = read(out.getvalue(), "csv", key="id")
    assert [orjson.loads(message.value or b"") for message in messages] == [
        {"text": text, "id": str(number)} for text, number in rows
    ]
    assert [message.key for message in messages] == [str(number).encode() for _, number in rows]


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("id,body\n1,a\n", "no column 'text'; its first line has id, body"),
        ("text,body\na,b\n", "no column 'id'; its first line has text, body"),
        ("", "no column 'text'; its first line has nothing"),
        ("id,text\n1,a\n2,b,c\n", "texts.x:3: more values than columns"),
    ],
)
def test_a_table_that_cannot_be_read_says_what_it_lacks(table: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        read(table, "csv", key="id")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.csv", "csv"), ("a.CSV", "csv"), ("a.jsonl", "jsonl"), ("a.ndjson", "jsonl"), ("a.txt", "text"), ("a", "text")],
)
def test_the_name_of_a_file_tells_its_format(name: str, expected: str) -> None:
    assert _format_of(Path(name)) == expected
    assert _format_of(None) == "text"


def test_messages_are_taken_in_chunks_until_one_is_too_large_or_no_text() -> None:
    settings = Settings.model_validate({"kafka": {"max_message_bytes": 2000}})
    messages = iter(read("a\nb\nc\n" + "x" * 3000, "text"))
    assert [message.value for message in _take(messages, 2, settings, "f")] == [b"a", b"b"]
    with pytest.raises(ConfigurationError, match=r"f: a line exceeds kafka.max_message_bytes \(2000\)"):
        _take(messages, 2, settings, "f")
    broken = io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), "utf-8")
    with pytest.raises(ConfigurationError, match="f is not UTF-8"):
        _take(read_messages(broken, "f", "text", "t", key_field=None, text_field="text"), 2, settings, "f")
