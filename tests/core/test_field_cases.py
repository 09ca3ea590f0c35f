"""Values as other people's producers write them, each with relatives of its kind; the numbers are those of the list of
field cases that the tests are named after."""

from __future__ import annotations

import base64
import codecs
import gzip
import json
from typing import Any

import orjson
import pytest

from streamer.core.events import Event, Headers, Tombstone
from streamer.core.reading import MAX_DEPTH, MAX_ID_BYTES
from tests.core.values import CLOUD, ENVELOPE, decode, framed, letter_of, text_of


@pytest.mark.parametrize(
    ("value", "headers", "settings"),
    [
        (b"\xef\xbb\xbf" + b'{"text": "late"}', (), {}),
        (b"\xef\xbb\xbf" + b' \n{"text": "late"}', (), {"format": "json"}),
        (b"\xef\xbb\xbf" + b'{"text": "late"}', (("content-type", b"application/json"),), {}),
        (b"\xef\xbb\xbf" + b'{"data": "late"}', CLOUD, {}),
        (orjson.dumps({"data_base64": base64.b64encode(b"\xef\xbb\xbf" + b'{"text": "late"}').decode()}), CLOUD, {}),
        (b"\xef\xbb\xbflate", (), {}),
        (b"\xef\xbb\xbflate", (), {"format": "text"}),
        (b'{"text": "\xef\xbb\xbflate"}', (), {}),
        (b'{"text": "\\ufefflate"}', (), {}),
    ],
)
def test_row_5_a_byte_order_mark_is_no_text(value: bytes, headers: Headers, settings: Any) -> None:
    """Field case 5."""
    assert text_of(value, headers, **settings) == "late"


@pytest.mark.parametrize("format_", ["auto", "json", "text"])
@pytest.mark.parametrize(
    "value",
    [framed(b'{"text": "late"}'), framed(b' {"text": "late"}', 1 << 20), framed(b'"late"'),
     b"\x00" + bytes(7) + b'\x07{"text": "late"}'],
)  # fmt: skip
def test_row_6_json_behind_a_registry_frame_is_read(value: bytes, format_: str) -> None:
    """Field case 6."""
    assert text_of(value, format=format_) == "late"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (framed(b"\x0corder1\x24The parcel is late"), "schema id 7"),
        (framed(b"\x00\x0a\x08late", 100_234), "schema id 100234"),
        (framed(b"{\x02late", 12), "schema id 12"),
        (framed(b""), "schema id 7"),
        (b"\x00" + bytes(7) + b"\x09\x08late", "schema id 9"),
    ],
)
@pytest.mark.parametrize("headers", [(), (("content-type", b"application/avro"),)])
def test_row_6_avro_and_protobuf_are_dead_letters_that_name_the_schema(
    value: bytes, says: str, headers: Headers
) -> None:
    """Field case 6."""
    letter = letter_of(value, headers)
    assert (letter.kind, says in letter.reason) == ("undecodable", True), letter.reason


@pytest.mark.parametrize(
    "content_type",
    [b"application/avro", b"application/octet-stream", b"image/png", b"application/x-protobuf; v=1",
     b"application/cloudevents+avro", b"application/cloudevents-batch+json"],
)  # fmt: skip
def test_row_6_other_content_types_are_no_prose(content_type: bytes) -> None:
    """Field case 6."""
    letter = letter_of(b"The parcel is late", (("content-type", content_type),))
    assert letter.kind == "undecodable"
    assert content_type.decode().split(";")[0] in letter.reason


def test_row_6_a_format_that_is_set_outweighs_the_content_type() -> None:
    headers = (("content-type", b"application/octet-stream"),)
    assert text_of(b"late", headers, format="text") == "late"
    assert text_of(b'{"text": "late"}', headers, format="json") == "late"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("The parcel".encode("utf-16-le"), "UTF-16"),
        ("The parcel".encode("utf-16-be"), "UTF-16"),
        (codecs.BOM_UTF16_LE + "Das Päckchen".encode("utf-16-le"), "UTF-16"),
        (codecs.BOM_UTF16_BE + '{"text": "late"}'.encode("utf-16-be"), "UTF-16"),
        ('{"text": "late"}'.encode("utf-16-le"), "UTF-16"),
        (b"late\x00", "U+0000"),
        (b"\x02\x08late", "U+0002"),
        (b"PNG\x1a\n", "U+001A"),
    ],
)
@pytest.mark.parametrize("format_", ["auto", "json"])
def test_row_7_binary_values_are_no_text(value: bytes, says: str, format_: str) -> None:
    """Field case 7."""
    letter = letter_of(value, format=format_)
    assert letter.kind == "undecodable"
    assert format_ == "json" or says in letter.reason


def test_row_7_a_declared_text_may_hold_colours_but_no_nul() -> None:
    coloured = b"\x1b[31mERROR\x1b[0m the parcel is late"
    assert (
        text_of(coloured, format="text") == text_of(coloured, (("content-type", b"text/plain"),)) == coloured.decode()
    )
    assert letter_of(coloured).kind == "undecodable"
    assert "U+0000" in letter_of(b"la\x00te", format="text").reason


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("ISO-8859-1", "Das Päckchen"),
        ('"windows-1252"', "Das Päckchen"),
        ("utf-16le", "Das Päckchen"),
        ("UTF-32", "Das Päckchen"),
        ("windows-1251", "Посылка"),
        ("KOI8-R", "Посылка"),
        ("Shift_JIS", "荷物が遅い"),
        ("EUC-KR", "소포"),
        ("GB18030", "包裹迟到了"),
        ("Big5", "包裹遲到"),
        ("cp037", "late"),
    ],
)
def test_row_7_the_charset_of_a_content_type_is_heeded(charset: str, text: str) -> None:
    value = text.encode(charset.strip('"'))
    assert text_of(value, (("content-type", f"text/plain; charset={charset}".encode()),)) == text
    document = json.dumps({"text": text}, ensure_ascii=False).encode(charset.strip('"'))
    assert text_of(document, (("content-type", f"application/json; charset={charset}".encode()),)) == text


@pytest.mark.parametrize(
    "charset", ["unicode_escape", "rot13", "base64", "idna", "windows-9", "cp", "", "utf8", "x" * 99]
)
def test_row_7_what_is_no_charset_is_left_alone(charset: str) -> None:
    headers = (("content-type", f"text/plain; charset={charset}".encode()),)
    assert text_of(rb"late \u0041", headers) == r"late \u0041"
    assert "not UTF-8" in letter_of(b"caf\xe9", headers).reason


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (gzip.compress(b'{"text": "late"}', mtime=0), "gzip data"),
        (b"\x28\xb5\x2f\xfd\x04\xff", "zstd data"),
        (b"\xac\xed\x00\x05t\x00\x04late", "a Java object"),
        (b"PK\x03\x04\xff", "a zip archive"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
    ],
)
@pytest.mark.parametrize("format_", ["auto", "json", "text"])
def test_row_7_well_known_data_are_named(value: bytes, name: str, format_: str) -> None:
    letter = letter_of(value, format=format_)
    assert letter.kind == "undecodable"
    assert f"the value is {name}, not text" in letter.reason


@pytest.mark.parametrize(
    ("value", "text", "metadata"),
    [
        (rb'{"text": "late \ud83d"}', "late \ufffd", {}),
        (rb'{"text": "\udc00late"}', "\ufffdlate", {}),
        (rb'{"text": "late \ud83d\ude00"}', "late \U0001f600", {}),
        (rb'{"text": "late", "title": "cut \ud83d"}', "late", {"title": "cut \ufffd"}),
        (rb'{"text": "late", "\ud83d": [{"a\udc00": "\ud83dx"}]}', "late", {"\ufffd": [{"a\ufffd": "\ufffdx"}]}),
    ],
)
def test_row_8_lone_surrogates_become_the_replacement_character(value: bytes, text: str, metadata: Any) -> None:
    """Field case 8."""
    event = decode(value)
    assert isinstance(event, Event)
    assert (event.text, event.metadata) == (text, metadata)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "9" * 400])
def test_row_9_numbers_that_json_has_not_are_null_in_the_metadata(number: str) -> None:
    """Field case 9."""
    event = decode(f'{{"text": "late", "score": {number}, "in": [{{"side": {number}}}, NaN]}}'.encode())
    assert isinstance(event, Event)
    assert event.metadata == {"score": None, "in": [{"side": None}, None]}
    assert letter_of(f'{{"text": {number}}}'.encode()).kind == "missing_text"


def test_row_9_large_whole_numbers_are_rounded_as_without_a_nan_beside_them() -> None:
    whole = b'{"text": "late", "no": 123456789012345678901234567890, "max": 18446744073709551615}'
    plain, lenient = decode(whole), decode(whole[:-1] + b', "x": NaN}')
    assert isinstance(plain, Event)
    assert isinstance(lenient, Event)
    assert lenient.metadata == {**(plain.metadata or {}), "x": None}


@pytest.mark.parametrize("headers", [CLOUD, (("content-type", b"application/json"),), ()])
@pytest.mark.parametrize(
    "data",
    [
        {"data": {"text": "late", "n": 1}},
        {"data_base64": None, "data": {"text": "late", "n": 1}},
        {"data_base64": base64.b64encode(b'{"text": "late", "n": 1}').decode(), "datacontenttype": "application/json"},
        {"data_base64": base64.b64encode(b'{"text": "late", "n": 1}').decode()},
    ],
)
def test_rows_10_and_e2_a_structured_cloud_event_keeps_its_id_and_attributes(data: Any, headers: Headers) -> None:
    """Field cases 10, 10b and E2."""
    event = decode(orjson.dumps(ENVELOPE | data), key=None, headers=headers)
    assert isinstance(event, Event)
    assert (event.id, event.text) == ("evt-1", "late")
    assert event.metadata is not None
    assert event.metadata.items() >= {"tenant": "acme", "source": "/x", "n": 1}.items()


def test_row_10_both_modes_of_a_cloud_event_are_read_alike() -> None:
    """Field case 10."""
    headers = tuple((f"ce_{name}", value.encode()) for name, value in ENVELOPE.items())
    binary = decode(b'{"text": "late"}', key=None, headers=(*headers, ("content-type", b"application/json")))
    structured = decode(orjson.dumps(ENVELOPE | {"data": {"text": "late"}}), key=None, headers=CLOUD)
    assert isinstance(binary, Event)
    assert isinstance(structured, Event)
    assert (binary.id, binary.text, binary.metadata) == (structured.id, structured.text, structured.metadata)


def test_row_10_the_key_and_the_fields_of_data_go_before_those_of_the_envelope() -> None:
    event = decode(orjson.dumps(ENVELOPE | {"data": {"text": "late", "id": "own"}}), headers=CLOUD, key=b"k")
    assert isinstance(event, Event)
    assert (event.id, event.metadata and event.metadata["id"]) == ("k", "own")
    for path in ("data.id", "id"):
        event = decode(orjson.dumps(ENVELOPE | {"data": {"text": "late", "id": "own"}}), id_field=path)
        assert isinstance(event, Event)
        assert event.id == "own"
    assert text_of(orjson.dumps(ENVELOPE | {"data": {"body": "late"}}), text_field="data.body") == "late"


BINARY_MODE = (("ce_id", b"evt-1"), ("ce_specversion", b"1.0"), ("content-type", b"application/json"))


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (orjson.dumps(ENVELOPE | {"data": "late"}), CLOUD),
        (orjson.dumps(ENVELOPE | {"data": "late", "datacontenttype": "application/json"}), CLOUD),
        (orjson.dumps(ENVELOPE | {"data": "late", "datacontenttype": "text/plain"}), CLOUD),
        (b'"late"', BINARY_MODE),
        (
            orjson.dumps(
                ENVELOPE | {"data_base64": base64.b64encode(b'"late"').decode(), "datacontenttype": "application/json"}
            ),
            CLOUD,
        ),
    ],
)
def test_row_10c_a_json_string_is_the_text_in_every_mode(value: bytes, headers: Headers) -> None:
    """Field case 10c."""
    assert text_of(value, headers) == "late"


@pytest.mark.parametrize(
    "data",
    [{"data": "x", "datacontenttype": "application/avro"}, {"data_base64": "eA==", "datacontenttype": "image/png"},
     {"data_base64": "!"}, {"data": None}, {"data_base64": None}, {"data": [1]}],
)  # fmt: skip
def test_row_10_data_that_is_no_text_is_a_dead_letter_in_both_modes(data: Any) -> None:
    assert letter_of(orjson.dumps(ENVELOPE | data), CLOUD).kind in ("undecodable", "missing_text")


BLANK = ["", " \n", "\u00a0\u3000\u2028", "\u200b", "\ufeff", "\u2060", "\u00ad", "\u2800", "\u3164", "\x00\x00",
         "\x00", "\u0301\u0308", "\u200d\ufe0f", "\u034f \u180e\u115f"]  # fmt: skip


@pytest.mark.parametrize("text", BLANK)
def test_row_27_a_text_in_which_nothing_can_be_seen_is_empty(text: str) -> None:
    """Field case 27."""
    assert letter_of(json.dumps({"text": text}).encode()).kind == "empty_text"
    assert letter_of(text.encode()).kind == "empty_text"
    assert letter_of(text.encode(), format="text").kind == "empty_text"


@pytest.mark.parametrize("text", ["a\u200b", "\u200b\U0001f600", "e\u0301", "\u0e01\u0e48", "0"])
def test_row_27_one_letter_is_enough(text: str) -> None:
    assert text_of(text.encode()) == text


@pytest.mark.parametrize(
    ("value", "headers", "settings"),
    [
        (b'"late \\"now\\""', (), {}),
        (b'"late \\"now\\""', (), {"format": "json"}),
        (b'"late \\"now\\""', (("content-type", b"application/json; charset=utf-8"),), {}),
        (framed(b'"late \\"now\\""'), (), {}),
        (b'  "late \\"now\\""\n', (), {}),
    ],
)
def test_row_28_a_json_string_as_value_is_the_text(value: bytes, headers: Headers, settings: Any) -> None:
    """Field case 28."""
    assert text_of(value, headers, **settings) == 'late "now"'


@pytest.mark.parametrize("value", [b"null", b" null ", b"[1, 2]", b'["a", {"text": "b"}]'])
@pytest.mark.parametrize("format_", ["auto", "json"])
def test_row_28_other_json_values_are_no_text(value: bytes, format_: str) -> None:
    assert letter_of(value, format=format_).kind == "missing_text"


@pytest.mark.parametrize(
    "text", ['"Late," she said.', "[ERROR] parcel is late", "nullable", '"late" "again"', "42", "true"]
)
def test_row_28_prose_that_only_begins_like_json_stays_prose(text: str) -> None:
    assert text_of(text.encode()) == text


@pytest.mark.parametrize(
    ("document", "path", "metadata"),
    [
        ({"body.text": "late", "n": 1}, "body.text", {"n": 1}),
        ({"a": {"b.c": "late", "n": 1}}, "a.b.c", {"a": {"n": 1}}),
        ({"a.b": {"c": "late"}}, "a.b.c", {"a.b": {}}),
        ({"parts": [{"text": "late", "n": 1}, 2]}, "parts.0.text", {"parts": [{"n": 1}, 2]}),
        ({"parts": ["x", "late"]}, "parts.1", {"parts": ["x"]}),
    ],
)
def test_row_29_paths_find_keys_with_dots_and_places_in_lists(document: Any, path: str, metadata: Any) -> None:
    """Field case 29."""
    event = decode(orjson.dumps(document), text_field=path)
    assert isinstance(event, Event)
    assert (event.text, event.metadata) == ("late", metadata)


@pytest.mark.parametrize("path", ["parts.2", "parts.x", "parts.-1", "parts.0.text.more", "parts.99999999999999999999"])
def test_row_29_paths_that_lead_nowhere_are_missing_texts(path: str) -> None:
    assert letter_of(b'{"parts": [{"text": "late"}, "x"]}', text_field=path).kind == "missing_text"


def nested(levels: int, opening: str = "[", closing: str = "]") -> str:
    return opening * levels + "1" * (opening == "[") + closing * levels


@pytest.mark.parametrize(
    "inner", [nested(300), nested(MAX_DEPTH), nested(1100), '{"a":' * 200 + "1" + "}" * 200, nested(300) + ', "x": NaN']
)
def test_row_f1_json_deeper_than_the_outputs_can_carry_is_refused_at_the_door(inner: str) -> None:
    """Field case F1."""
    letter = letter_of(f'{{"text": "x", "m": {inner}}}'.encode())
    assert letter.kind == "undecodable"
    assert str(MAX_DEPTH) in letter.reason or "not JSON" in letter.reason


def test_row_f1_the_deepest_json_that_is_admitted_can_be_written_with_room_around_it() -> None:
    event = decode(f'{{"text": "x", "m": {nested(MAX_DEPTH - 1)}}}'.encode())
    assert isinstance(event, Event)
    orjson.dumps([[[[[[[[event.metadata]]]]]]]])
    brackets = decode(orjson.dumps({"text": "x" + "[" * 1000, "m": [[1]] * 500}))
    assert isinstance(brackets, Event)


@pytest.mark.parametrize("settings", [{}, {"id_field": "id"}])
@pytest.mark.parametrize("value", [b'{"text": "x", "id": "%s"}' % (b"k" * (MAX_ID_BYTES + 1)), None])
def test_row_f4_ids_are_bounded_at_the_door(value: bytes | None, settings: Any) -> None:
    """Field case F4."""
    long = b"k" * (MAX_ID_BYTES + 1)
    letter = letter_of(value, key=long, **settings)
    assert (letter.kind, str(MAX_ID_BYTES) in letter.reason) == ("too_large", True)
    fitting = decode(value, key=long[1:])
    assert isinstance(fitting, Event | Tombstone)


def test_row_f4_an_id_of_a_cloud_event_or_with_control_characters_is_checked_as_well() -> None:
    envelope = ENVELOPE | {"id": "é" * 3000, "data": {"text": "late"}}
    assert letter_of(orjson.dumps(envelope), key=None).kind == "too_large"
    assert "U+0000" in letter_of(b'{"text": "x", "id": "a\\u0000b"}', id_field="id").reason


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b'{"text": "late",}', "undecodable"),
        (b'{"text": "late"} {"text": "wet"}', "undecodable"),
        (b'{"text": "late"', "undecodable"),
        (b"{'text': 'late'}", "undecodable"),
        (b'{"text": "late", "m": ' + nested(5000).encode() + b"}", "undecodable"),
        (b'{"text": {"text": "late"}}', "missing_text"),
    ],
)
def test_row_39_what_is_no_json_is_a_dead_letter_with_a_reason(value: bytes, kind: str) -> None:
    """Field case 39."""
    letter = letter_of(value)
    assert (letter.kind, bool(letter.reason)) == (kind, True)


@pytest.mark.parametrize(
    ("value", "metadata"),
    [
        (b'{"text": "wet", "text": "late"}', {}),
        (b'{"text": "late", "n": 18446744073709551616}', {"n": 2.0**64}),
        (b'{"text": "late", "n": -9223372036854775809}', {"n": -(2.0**63)}),
        (b'{"text": "late", "": 1, " ": {"": 2}}', {"": 1, " ": {"": 2}}),
        (b'{"text": "late", "n": 1e-400}', {"n": 0.0}),
    ],
)
def test_row_39_json_that_others_read_otherwise_is_read(value: bytes, metadata: Any) -> None:
    """Field case 39. Of two keys the last counts, as in Python, Java and Go."""
    event = decode(value)
    assert isinstance(event, Event), event
    assert (event.text, event.metadata) == ("late", metadata)


@pytest.mark.parametrize(
    ("key", "id"),
    [(b"", "texts-2-17"), (b"\xff\xfe", "0xfffe"), (b"a\nb", "a\nb"), (b" ", " "), ("é\u200b".encode(), "é\u200b")],
)
def test_row_39_keys_of_any_bytes_become_ids(key: bytes, id: str) -> None:
    """Field case 39."""
    headers = (("a", b""), ("a", b"\xff"), ("", b"x"), ("content-type", b"application/json"))
    event = decode(b'{"text": "late"}', key=key, headers=headers)
    assert isinstance(event, Event), event
    assert (event.id, event.record.headers) == (id, headers)
    assert letter_of(b"late", key=b"k" * 70_000).kind == "too_large"
