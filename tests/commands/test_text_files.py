"""Files as people have them: each is read, or refused with the line and the reason."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.commands import text_files as module
from streamer.commands.file_format import FileFormat
from streamer.commands.rows import AnyRow, BadRow, Row
from streamer.commands.text_files import open_text_file
from streamer.errors import ConfigurationError

# Of Kafka Connect's JsonConverter.
ENVELOPES = [
    json.dumps({"schema": {"type": "struct", "fields": []}, "payload": {"id": "1", "text": "late"}}),
    json.dumps({"schema": None, "payload": {"id": "2", "text": "wet"}}),
]
NOISE = random.Random(1).randbytes(50_000)


def read(folder: Path, name: str, content: str | bytes, **wanted: Any) -> list[AnyRow]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with open_text_file(path, FileFormat(**wanted)) as file:
        return list(file.rows())


def contents(rows: list[AnyRow]) -> list[Any]:
    assert not [row for row in rows if isinstance(row, BadRow)]
    return [row.content for row in rows if isinstance(row, Row)]


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.csv", "id,text\n1,late\n2,wet\n", {}),
        ("a.csv", b"\xef\xbb\xbfid,text\r\n1,late\r\n2,wet\r\n", {}),
        ("a.csv", "\n\nid;text\n\n1;late\n2;wet", {}),
        ("a.csv", 'id|text\n1|late\n2|"wet"\n', {}),
        ("a.csv", "id, text\n1,late\n2,wet\n", {}),
        ("a.tsv", "id\ttext\n1\tlate\n2\twet\n", {}),
        ("a.CSV", "1,late\n2,wet\n", {"columns": ["id", "text"]}),
        ("a.txt", "id:text\n1:late\n2:wet\n", {"delimiter": ":"}),
        ("a", "id,text\n1,late\n2,wet\n", {"kind": "csv"}),
        ("a.csv", "id,text\r1,late\r2,wet\r", {}),
        ("a.csv", "id,text\n1,late\n2,wet\n".encode("utf-16"), {}),
        ("a.csv.gz", gzip.compress(b"id,text\n1,late\n2,wet\n", mtime=0), {}),
        ("a.jsonl", '{"id": "1", "text": "late"}\n\n{"id": "2", "text": "wet"}\n', {}),
        ("a.ndjson", b'\xef\xbb\xbf{"id": "1", "text": "late"}\r\n{"id": "2", "text": "wet"}', {}),
        ("a.json", '[{"id": "1", "text": "late"}, {"id": "2", "text": "wet"}]', {}),
        ("a.json", json.dumps([{"id": "1", "text": "late"}, {"id": "2", "text": "wet"}], indent=2), {}),
        ("a.json", '{"id": "1", "text": "late"}\n{"id": "2", "text": "wet"}', {}),
        ("a.log", '{"id": "1", "text": "late"}\n{"id": "2", "text": "wet"}', {}),
        ("a", json.dumps([{"id": "1", "text": "late"}, {"id": "2", "text": "wet"}], indent=2), {}),
        ("a.jsonl.gz", gzip.compress(b'{"id": "1", "text": "late"}\n{"id": "2", "text": "wet"}', mtime=0), {}),
        ("a.csv", "id,text,,\n1,late,,\n2,wet,,\n", {}),
        ("a.csv", "id;text\n1;late;\n2;wet;;;\n", {}),
        ("a.json", '{\n  "id": "1",\n  "text": "late"\n}\n{\n  "id": "2",\n  "text": "wet"\n}\n', {}),
        ("a.json", '{"id": "1", "text": "late"}{"id": "2",\n"text": "wet"}', {}),
        ("a.jsonl", b'{"id": "1", "text": "late"}\n\xef\xbb\xbf{"id": "2", "text": "wet"}\n', {}),
        ("a.jsonl", "".join(f"{line}\n" for line in ENVELOPES), {}),
        ("a.json", "[" + ",".join(ENVELOPES) + "]", {}),
    ],
)
def test_the_same_rows_in_many_dresses(name: str, content: str | bytes, wanted: Any, tmp_path: Path) -> None:
    """Field cases 14, 14b, 16, 24, 25, 26 and E3."""
    rows = contents(read(tmp_path, name, content, **wanted))
    assert rows == [{"id": "1", "text": "late"}, {"id": "2", "text": "wet"}]


def test_objects_over_several_lines_have_the_number_of_their_first(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.json", '{\n"a": 1\n}\n\n{\n"a": 2\n}\n[3]\n"late"\n')
    assert rows == [
        Row(1, {"a": 1}),
        Row(5, {"a": 2}),
        BadRow(8, "an array, not a JSON object or string"),
        Row(9, "late"),
    ]


def test_a_pipe_is_read_as_a_file_is(tmp_path: Path) -> None:
    """As of `<(zcat texts.gz)` in a shell."""
    os.mkfifo(tmp_path / "pipe")
    pipe = tmp_path / "pipe"
    writer = threading.Thread(target=pipe.write_bytes, args=[gzip.compress(b"late\nwet\n")], daemon=True)
    writer.start()
    with open_text_file(tmp_path / "pipe", FileFormat()) as file:
        assert contents(list(file.rows())) == ["late", "wet"]
        assert (file.size, file.read) == (None, 0)
    writer.join()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04\x14\x00", "is a zip archive, not text: save it as CSV or JSON lines"),
        (b"PAR1\x15\x04", "is Parquet, not text: save it as CSV or JSON lines"),
        (lzma.compress(b"late\n"), "is xz data, not text: decompress it first"),
        (bz2.compress(b"late\n"), "is bzip2 data, not text: decompress it first"),
        (gzip.compress(lzma.compress(b"late\n"), mtime=0), "is xz data, not text: decompress it first"),
    ],
)
def test_files_of_other_kinds_are_refused_by_name(content: bytes, says: str, tmp_path: Path) -> None:
    for name in ("a.csv", "a.jsonl", "a"):
        with pytest.raises(ConfigurationError, match=says):
            read(tmp_path, name, content)


def test_lines_of_text(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.txt", b"\xef\xbb\xbfone\r\n \r\n\r\n two \nthree")
    assert rows == [Row(1, "one"), Row(4, " two "), Row(5, "three")]
    assert contents(read(tmp_path, "a", "{half\n")) == ["{half"]
    assert contents(read(tmp_path, "a", "\n[INFO] started\n{}\n")) == ["[INFO] started", "{}"]
    assert contents(read(tmp_path, "a.txt", '{"text": "x"}\n')) == ['{"text": "x"}']
    assert contents(read(tmp_path, "a", '{"text": "x"}\n', kind="text")) == ['{"text": "x"}']
    assert read(tmp_path, "a.txt", "") == []


@pytest.mark.parametrize(
    "content", ['["late", "wet"]', '"late"\n"wet"\n', '{"schema": {"type": "string"}, "payload": "late"}\n"wet"\n',
                '{"schema": {"type": "bytes"}, "payload": "bGF0ZQ=="}\n"wet"\n'],
)  # fmt: skip
def test_json_strings_are_texts(content: str, tmp_path: Path) -> None:
    """Field cases 28 and E3, in files."""
    assert contents(read(tmp_path, "a.json", content)) == ["late", "wet"]


def test_row_e3_the_fields_of_an_envelope_have_paths_with_payload_too(tmp_path: Path) -> None:
    [row] = read(tmp_path, "a.jsonl", ENVELOPES[0] + "\n")
    assert isinstance(row, Row)
    assert [row.path("payload.text"), row.path("text"), Row(1, {}).path("payload.text")] == [
        "text",
        "text",
        "payload.text",
    ]
    [null] = read(tmp_path, "a.jsonl", '{"schema": null, "payload": null}\n')
    assert null == BadRow(1, "null, not a JSON object or string")


def test_one_pretty_object_is_one_row(tmp_path: Path) -> None:
    """Field case 16."""
    assert contents(read(tmp_path, "a.json", '{\n  "text": "late"\n}\n')) == [{"text": "late"}]


def test_quoted_newlines_keep_the_numbers_right(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", 'id,text\n1,"two\nlines, and a ""quote"""\n2,one\n')
    assert rows == [
        Row(2, {"id": "1", "text": 'two\nlines, and a "quote"'}),
        Row(4, {"id": "2", "text": "one"}),
    ]


@pytest.mark.parametrize("size", [131_072, 131_073, 1_000_000])
@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [("", "", {}), ('"', '"', {}), ("id\t", "", {"delimiter": "\t", "columns": ["id", "text"]})],
)
def test_row_15_a_field_may_be_large(before: str, after: str, wanted: Any, size: int, tmp_path: Path) -> None:
    """Field case 15."""
    header = "" if wanted else "text\n"
    [row] = contents(
        read(tmp_path, "a.csv", header + before + "x\n" * (size // 2 if after else 0) + "x" * size + after, **wanted)
    )
    assert row["text"].count("x") == size + (size // 2 if after else 0)


def test_row_15_a_field_beyond_all_measure_is_a_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_FIELD", 200_000)
    bad, good = read(tmp_path, "a.csv", "text\n" + "x" * 200_001 + "\nlate\n")
    assert isinstance(bad, BadRow)
    assert (bad.number, "field larger than" in bad.reason) == (2, True)
    assert good == Row(3, {"text": "late"})


@pytest.mark.parametrize(
    ("name", "content", "wanted", "bad", "says"),
    [
        ("a.txt", b"one\ncaf\xe9\nthree\n", {}, 2, "not UTF-8: byte 0xe9 at character 4; see --encoding"),
        ("a.csv", b"id,text\n1,x\n2,caf\xe9\n3,y\n", {}, 3, "byte 0xe9"),
        ("a.csv", "id,text\n1,x\n2,y,z\n3,w\n", {}, 3, "3 values for 2 columns"),
        ("a.csv", 'id,text\n1,x\n2,"y" z\n3,w\n', {}, 3, "not CSV"),
        ("a.jsonl", '{"a": 1}\n{half\n{"a": 2}\n', {}, 2, "not JSON"),
        ("a.jsonl", '{"a": 1}\n[1]\n{"a": 2}\n', {}, 2, "an array, not a JSON object"),
        ("a.json", '[{"a": 1},\n5,\n{"a": 2}]', {}, 2, "a number, not a JSON object"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\xff"}\n{"a": 2}\n', {}, 2, "not UTF-8"),
    ],
)
def test_a_bad_row_has_a_number_and_the_next_is_read(
    name: str, content: str | bytes, wanted: Any, bad: int, says: str, tmp_path: Path
) -> None:
    """Field cases 17, 18 and 26."""
    first, second, third = read(tmp_path, name, content, **wanted)
    assert isinstance(second, BadRow)
    assert second.number == bad
    assert says in second.reason
    assert isinstance(first, Row)
    assert isinstance(third, Row)


def test_a_broken_first_line_is_one_bad_row(tmp_path: Path) -> None:
    assert read(tmp_path, "a.jsonl", '{half\n{"a": 1}\n') == [BadRow(1, "not JSON"), Row(2, {"a": 1})]


def test_json_that_python_writes_is_read(tmp_path: Path) -> None:
    rows = contents(read(tmp_path, "a.jsonl", '{"text": "late", "score": NaN}\n{"text": "cut \\ud83d", "n": [1]}\n'))
    assert rows == [{"text": "late", "score": None}, {"text": "cut \N{REPLACEMENT CHARACTER}", "n": [1]}]


def test_a_quote_that_is_never_closed_is_told(tmp_path: Path) -> None:
    content = 'id\ttext\n1\t"oh no\n2\twet\n'
    [bad] = read(tmp_path, "a.tsv", content)
    assert isinstance(bad, BadRow)
    assert "--no-quotes" in bad.reason
    assert contents(read(tmp_path, "a.tsv", content, quotes=False))[0] == {"id": "1", "text": '"oh no'}


def test_other_encodings(tmp_path: Path) -> None:
    """Field cases 17 and 26."""
    assert contents(read(tmp_path, "a.txt", b"caf\xe9\n", encoding="latin-1")) == ["café"]
    assert contents(read(tmp_path, "a.txt", "café\n".encode("utf-16-le"), encoding="utf-16-le")) == ["café"]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"encoding": "klingon"}, "--encoding klingon"),
        ({"delimiter": "::"}, "--delimiter '::'"),
        ({"columns": ["a", "a"]}, "a name comes twice"),
        ({"kind": "xml"}, "--format xml: it must be one of auto, text, jsonl, csv"),
    ],
)
def test_impossible_formats_are_refused(wanted: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        FileFormat(**wanted)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "id,text,id\n1,x,2\n", "its header has 'id' twice"),
        ("a.csv", b"caf\xe9,id\n1,2\n", "its header is not UTF-8"),
        ("a.txt.gz", gzip.compress(b"one\n" * 100, mtime=0)[:-9], "cannot be read to its end"),
        ("a.txt.gz", b"\x1f\x8bnonsense and more of it", "cannot be read"),
        (
            "a.txt.gz",
            gzip.compress(NOISE, mtime=0)[:20_000] + b"\xff" * 500,
            "cannot be read to its",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(name: str, content: str | bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=says):
        read(tmp_path, name, content)


CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda cell: cell == cell.strip())


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_what_the_csv_module_writes_is_read_back(rows: list[tuple[str, str]]) -> None:
    written = io.StringIO()
    csv.writer(written).writerows([("id", "text"), *rows])
    raw = io.BufferedReader(io.BytesIO(written.getvalue().encode()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(raw))
        with open_text_file(None, FileFormat(kind="csv")) as file:
            assert contents(list(file.rows())) == [{"id": id, "text": text} for id, text in rows]
