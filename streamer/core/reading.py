"""What a value says: one reading of bytes and JSON for every door by which texts come in.

Pure functions. What cannot be read raises Unreadable, with the dead-letter kind and a reason for a person.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import numpy as np
import orjson

from streamer.errors import DeadLetterKind

MAX_DEPTH: Final = 128
"""Most levels of objects and arrays in a JSON value. All outputs, the snapshot and the search can write that many."""

MAX_VALUE_BYTES: Final = 16 * 1024 * 1024
"""Longest value that is read: reading takes up to half a second a megabyte, in which the worker does nothing else. Some
kilobytes on the wire can be hundreds of megabytes once they are decompressed."""

MAX_ID_BYTES: Final = 4096
"""Longest event id, in bytes of UTF-8: a verdict carries several."""

_BOM: Final = codecs.BOM_UTF8
# C0 without tab, line feed, form feed and carriage return; DEL is harmless.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b\x0e-\x1f]")
_LARGEST_INTEGER: Final = 2**64  # JSON numbers beyond are read as floating point, as orjson does
# Letters without ink: Hangul fillers and the blank of Braille.
_BLANK_LETTERS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Mn", "Me", "Zs", "Zl", "Zp"})
_FRAME_BYTES: Final = 5  # of a schema registry: a zero and the schema's id
_LONG_FRAME_BYTES: Final = 9
_FEW: Final = 64  # letters
_CONNECT_TYPES: Final = frozenset(
    {"struct", "map", "array", "string", "boolean", "bytes", "int8", "int16", "int32", "int64", "float", "double"}
)
# Of a content type; UTF-8 and ASCII need no entry.
_CHARSET: Final = re.compile(
    r"iso-?8859-?\d+|latin-?\d+|windows-?\w+|cp-?\d+|koi8-?[rut]|mac-?roman|shift[_-]?jis|euc-?\w+|gb\d+|gbk|big5\S*|"
    r"utf-?(16|32)([-_]?[lb]e)?"
)
_BINARY: Final = {
    b"\x1f\x8b": "gzip data", b"\x28\xb5\x2f\xfd": "zstd data", b"\xfd7zXZ\x00": "xz data", b"BZh": "bzip2 data",
    b"PK\x03\x04": "a zip archive", b"PAR1": "Parquet", b"\xac\xed\x00\x05": "a Java object", b"%PDF-": "PDF",
}  # fmt: skip
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEPS: Final = np.zeros(256, np.int8)  # of the depth, by byte
_STEPS[[*b"[{"]], _STEPS[[*b"]}"]] = 1, -1


EMPTY: Final = "the text is empty, or nothing in it can be seen"


class Unreadable(Exception):
    """This value cannot be an event. `kind`: of the dead letter."""

    def __init__(self, reason: str, kind: DeadLetterKind = "undecodable") -> None:
        super().__init__(reason)
        self.kind: DeadLetterKind = kind


def well_formed(text: str) -> str:
    """The text, each lone surrogate in it, which UTF-8 cannot carry, replaced by U+FFFD; pairs are joined."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def clean_text(text: str) -> str:
    """The text as it is embedded, whatever door it came in by: well-formed, without a byte order mark in front."""
    return text if text.isascii() else well_formed(text).removeprefix("\ufeff")


def is_blank(text: str) -> bool:
    """Whether nothing in the text can be seen: white space, control characters, characters of zero width, marks
    without a letter to carry them."""
    if text[:1].isalnum() and text[0] not in _BLANK_LETTERS:
        return False  # nearly always, and ten times as fast
    # Of megabytes each letter once, or the event loop would stand still for seconds.
    return all(map(_is_invisible, text[:_FEW])) and all(map(_is_invisible, set(text[_FEW:])))


def _is_invisible(letter: str) -> bool:
    return letter in _BLANK_LETTERS or unicodedata.category(letter) in _INVISIBLE


def read_utf8(value: bytes) -> str:
    """The text without a byte order mark in front. Raises Unreadable for other encodings, UTF-16 by name."""
    name = _utf16_name(value)
    if name is not None:
        raise Unreadable(f"the value is {name}, not UTF-8")
    try:
        return value.removeprefix(_BOM).decode()
    except UnicodeDecodeError as exc:
        binary = binary_name(value)
        raise Unreadable(f"the value is {binary}, not text" if binary else f"not UTF-8: {exc}") from exc


def binary_name(start: bytes) -> str | None:
    """What data that begin like this are, for a person, where many know it at first sight."""
    return next((name for prefix, name in _BINARY.items() if start.startswith(prefix)), None)


def read_prose(value: bytes, *, declared: bool, charset: str = "") -> str:
    """Plain text. Raises Unreadable when it is binary: control characters are no prose; where the text is `declared`
    as such only NUL is refused, so that coloured log lines pass."""
    text = read_utf8(recoded(value, charset))
    found = _CONTROLS.search(text)
    if found is None or is_blank(text) or (declared and "\x00" not in text):
        return text
    character = "\x00" if declared else found.group()
    hint = "" if declared else '; if that is text all the same, set input.format = "text"'
    raise Unreadable(f"the value holds control characters such as U+{ord(character):04X}, as binary data do{hint}")


def recoded(value: bytes, charset: str) -> bytes:
    """In UTF-8, what is in a charset that a content type names. Raises Unreadable."""
    if not _CHARSET.fullmatch(charset):
        return value  # as UTF-8, which says what is wrong if it is not
    try:
        return value.decode(charset).encode()
    except LookupError:
        return value
    except UnicodeError as exc:
        raise Unreadable(f"not {charset}, though the content type says so: {exc}") from exc


def read_json(value: bytes, depth: int = MAX_DEPTH) -> Any:
    """The JSON value, fit for every output: at most `depth` levels deep, lone surrogates replaced by U+FFFD, NaN and
    Infinity replaced by None. Raises Unreadable."""
    body = value.removeprefix(_BOM) if value[:1] == b"\xef" else value
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        document = _read_leniently(body, depth, exc)
    # Counting brackets costs next to nothing, and nearly always it is enough.
    if len(body) > depth and body.count(b"{") + body.count(b"[") > depth:
        _check_depth(body, depth)
    return document


def schema_frame(value: bytes) -> int | None:
    """The schema id of a value framed for a schema registry: a zero, the id in 4 bytes (Confluent) or 8 (Apicurio),
    then the data. None without such a frame."""
    if not value or value[0] != 0 or len(value) < _FRAME_BYTES or not any(value) or _utf16_name(value) is not None:
        return None
    return int.from_bytes(value[1:_FRAME_BYTES], "big") or int.from_bytes(value[1:_LONG_FRAME_BYTES], "big")


def read_framed(value: bytes) -> Any:
    """The JSON value behind a schema registry's frame. Raises Unreadable, naming the schema, for Avro and Protobuf."""
    for size in (_FRAME_BYTES, _LONG_FRAME_BYTES):
        if value[size:].lstrip()[:1] in (b"{", b"[", b'"'):
            with suppress(Unreadable):  # Avro may begin like JSON
                return read_json(value[size:])
    raise Unreadable(
        f"the value is framed for a schema registry (schema id {schema_frame(value)}) and not JSON: Avro and Protobuf "
        "are not read"
    )


def is_connect_envelope(document: Any) -> bool:
    """Whether this is what Kafka Connect's JsonConverter writes with schemas.enable: a schema of Connect's types, null
    where the data have none, and the payload; nothing else. Other objects with fields of these names are their
    owner's."""
    if not isinstance(document, dict) or document.keys() != {"schema", "payload"}:
        return False
    schema = document["schema"]
    if not isinstance(schema, dict):
        return schema is None
    return isinstance(schema.get("type"), str) and schema["type"] in _CONNECT_TYPES


def connect_payload(envelope: Mapping[str, Any]) -> Any:
    """What a Connect envelope holds; bytes where its schema says so. Raises Unreadable."""
    payload, schema = envelope["payload"], envelope["schema"] or {}
    is_binary = schema.get("type") == "bytes" and isinstance(payload, str)
    return read_base64(payload, "Connect payload") if is_binary else payload


def read_base64(text: str, name: str) -> bytes:
    """Raises Unreadable; `name` says what it was."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise Unreadable(f"{name}: {exc}") from exc


def key_text(key: bytes) -> str:
    """A record key as an id: its text, or hexadecimal digits after "0x" where it is binary. Of a Connect envelope the
    payload, "" where that is null: the schema around it changes with each deployment."""
    if key.isascii() and key[:1] != b"{" and (text := key.decode()).isprintable():
        return text  # nearly always
    if key[:1] == b"{" and b'"payload"' in key:
        with suppress(Unreadable):
            document = read_json(key)
            if is_connect_envelope(document):
                return _payload_text(connect_payload(document))
    return _plain_key(key)


def _payload_text(payload: Any) -> str:
    if isinstance(payload, bytes):
        return _plain_key(payload)
    if payload is None:
        return ""
    return payload if isinstance(payload, str) else orjson.dumps(payload).decode()


def _plain_key(key: bytes) -> str:
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return f"0x{key.hex()}"
    if text.isprintable():
        return text
    # A long in 8 bytes is valid UTF-8 where it is small: all numbers of a topic must be spelled alike.
    return f"0x{key.hex()}" if _CONTROLS.search(text) else text


def check_id(id: str) -> str:
    """The id. Raises Unreadable when it is longer than MAX_ID_BYTES or holds control characters."""
    if id.isprintable() and len(id) <= MAX_ID_BYTES // 4:  # of at most four bytes each
        return id
    size = len(id.encode())
    if size > MAX_ID_BYTES:
        raise Unreadable(f"the id has {size} bytes, the limit is {MAX_ID_BYTES}", "too_large")
    found = _CONTROLS.search(id)
    if found is not None:
        raise Unreadable(f"the id holds the control character U+{ord(found.group()):04X}")
    return id


def _read_leniently(body: bytes, depth: int, refusal: orjson.JSONDecodeError) -> Any:
    """JSON as much of the world writes it: with NaN and halves of surrogate pairs."""
    try:
        document = json.loads(read_utf8(body), parse_constant=lambda _: None)
    except Unreadable as exc:
        raise Unreadable(f"not JSON: {exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise Unreadable(f"not JSON: {refusal}") from exc
    _check_depth(body, depth)
    try:
        return orjson.loads(orjson.dumps(document))  # null for an infinity, a hundred times as fast as the other way
    except TypeError:
        return _cleaned(document)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, dict):
        return {well_formed(name): _cleaned(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_cleaned(inner) for inner in value]
    if type(value) is int and not -_LARGEST_INTEGER // 2 <= value < _LARGEST_INTEGER:
        return _rounded(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rounded(value: int) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None


def _check_depth(body: bytes, depth: int) -> None:
    """Of valid JSON. Raises Unreadable."""
    outside = np.frombuffer(_STRING.sub(b"", body), np.uint8)
    if np.cumsum(_STEPS[outside], dtype=np.int32).max(initial=0) > depth:
        raise Unreadable(f"nested more than {depth} levels deep: JSON that deep is not read")


def _utf16_name(value: bytes) -> str | None:
    """The encoding, when every other byte of the beginning is zero, or a byte order mark says it."""
    if value.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16 (it begins with its byte order mark)"
    start = value[:32]
    if len(start) >= 4 and len(start) % 2 == 0:
        high, low = start[0::2], start[1::2]
        if not any(high) and all(low):
            return "UTF-16 (big-endian, without a byte order mark)"
        if not any(low) and all(high):
            return "UTF-16 (little-endian, without a byte order mark)"
    return None
