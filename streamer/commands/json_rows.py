"""Rows of JSON: an object or a string a line, an array, or objects of several lines that follow each other."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import IO, Any

import orjson

from streamer.commands.rows import AnyRow, BadRow, Row, lines_of, undecodable
from streamer.core.reading import Unreadable, connect_payload, is_connect_envelope, read_prose
from streamer.core.text_fields import kind_of

LARGEST_DOCUMENT = 268_435_456  # characters of a JSON document that is not JSON lines: it is read whole


def begins_like_json(first: str) -> bool:
    """For names that tell nothing: whether the first line is JSON, or opens a document. Prose may begin with a bracket,
    too."""
    return first.strip() in ("{", "[", "[{") or isinstance(_parse(first), dict | list)


def json_rows(number: int, first: str, text: IO[str]) -> Iterator[AnyRow]:
    """Objects a line; or else the elements of an array, or objects of several lines that follow each other. `first`:
    the line that has been read already."""
    if not first:
        return
    row = _object(number, first)
    if isinstance(row, BadRow) and first.lstrip()[:1] in ("[", "{"):
        rest = text.read(LARGEST_DOCUMENT)
        found = _documents(number, first + rest) if undecodable(first + rest) is None else None
        if found is not None:
            yield from found
            return
        if len(rest) < LARGEST_DOCUMENT:
            text = io.StringIO(rest)
    yield row
    yield from (_object(place, line) for place, line in lines_of(text, number + 1))


def _documents(number: int, text: str) -> list[AnyRow] | None:
    """The rows of text that is one array, or nothing but objects, each over several lines, as jq prints them. None for
    other text."""
    whole = _parse(text)
    if isinstance(whole, list):
        return [_as_row(place, element) for place, element in enumerate(whole, 1)]
    if isinstance(whole, dict):
        return [_as_row(number, whole)]
    rows: list[AnyRow] = []
    place = 0
    while place < len(text):
        try:
            _, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            return None
        rows.append(_as_row(number, _parse(text[place:end])))
        while end < len(text) and text[end].isspace():
            end += 1
        number += text.count("\n", place, end)
        place = end
    return rows


_DECODER = json.JSONDecoder()


def _object(number: int, line: str) -> AnyRow:
    if reason := undecodable(line):
        return BadRow(number, reason)
    return _as_row(number, _parse(line.removeprefix("\ufeff")))  # of a file that was appended to another


def _as_row(number: int, value: Any) -> AnyRow:
    if value is _NOT_JSON:
        return BadRow(number, "not JSON")
    enveloped = is_connect_envelope(value)
    try:
        content = connect_payload(value) if enveloped else value
        content = read_prose(content, declared=True) if isinstance(content, bytes) else content
    except Unreadable as exc:
        return BadRow(number, str(exc))
    if isinstance(content, dict | str):
        return Row(number, content, enveloped)
    return BadRow(number, f"{kind_of(content)}, not a JSON object or string")


_NOT_JSON = object()


def _parse(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    # Python writes NaN as a bare word, and halves of emojis as escapes: read the lenient, slow way.
    try:
        value = json.loads(text, parse_constant=lambda _: None)
        plain = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return orjson.loads(plain)
    except (ValueError, RecursionError):
        return _NOT_JSON
