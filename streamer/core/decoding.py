"""Records to events: the formats in which texts may come, and what becomes of a record that holds none."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import orjson

from streamer.core.events import DeadLetter, Event, Input, Origin, Record, Tombstone
from streamer.core.text_fields import kind_of, names_in
from streamer.errors import DeadLetterKind

InputFormat: TypeAlias = Literal["auto", "json", "text"]


class _Undecodable(Exception):
    def __init__(self, kind: DeadLetterKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Decoder:
    """Records to inputs. `text_field` and `id_field` are paths into a JSON object; dots reach inside."""

    format: InputFormat = "auto"
    text_field: str = "text"
    id_field: str | None = None

    def decode(self, record: Record, origin: Origin) -> Input:
        """Never raises: what cannot be an Event or a Tombstone is a DeadLetter that says why.

        Event id: `id_field`, else the record key, else the CloudEvents id, else `topic-partition-offset`.
        """
        headers = dict(record.headers)
        if record.value is None:
            return Tombstone(origin, record, _record_id(record, headers))
        try:
            body = self._body(record.value, headers)
            if isinstance(body, str):
                text, metadata, own_id = body, None, None
            else:
                text, metadata = self._text(body)
                own_id = _scalar(_reach(body, self.id_field)) if self.id_field else None
        except _Undecodable as exc:
            return DeadLetter(origin, record, exc.kind, str(exc))
        if not text or text.isspace():
            return DeadLetter(origin, record, "empty_text", "the text is empty or only white space")
        return Event(origin, record, own_id or _record_id(record, headers), text, metadata)

    def _body(self, value: bytes, headers: Mapping[str, bytes]) -> str | dict[str, Any]:
        """The decoded value: plain text, or the JSON object that holds it. CloudEvents are unwrapped."""
        content_type = headers["content-type"].decode("latin-1").lower() if "content-type" in headers else ""
        if content_type.startswith("application/cloudevents+json"):
            return self._structured(_parse(value))
        if self.format == "text" or (self.format == "auto" and content_type.startswith("text/")):
            return _utf8(value)
        if self.format == "json" or "json" in content_type:
            return _object(_parse(value))
        if value.lstrip()[:1] != b"{":
            return _utf8(value)
        try:
            return _object(_parse(value))
        except _Undecodable as exc:
            # Embedding half a JSON document as if it were prose would hide a broken producer.
            hint = '; it begins like JSON (if the topic holds plain text, set input.format = "text")'
            raise _Undecodable(exc.kind, str(exc) + hint) from exc

    def _structured(self, envelope: Any) -> str | dict[str, Any]:
        envelope = _object(envelope)
        if "data_base64" in envelope:
            try:
                data = base64.b64decode(str(envelope["data_base64"]), validate=True)
            except (binascii.Error, ValueError) as exc:
                raise _Undecodable("undecodable", f"CloudEvents data_base64: {exc}") from exc
            return _object(_parse(data)) if data.lstrip()[:1] == b"{" else _utf8(data)
        data = envelope.get("data")
        if isinstance(data, str):
            return data
        if isinstance(data, dict):
            return data
        raise _Undecodable("missing_text", f"CloudEvents data is {kind_of(data)}, not a string or an object")

    def _text(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The text, and what the object holds besides it."""
        path = self.text_field.split(".")
        metadata = dict(body)
        inner = metadata
        for name in path[:-1]:
            child = inner.get(name)
            if not isinstance(child, dict):
                raise self._missing(body)
            inner[name] = child = dict(child)
            inner = child
        if path[-1] not in inner:
            raise self._missing(body)
        text = inner.pop(path[-1])
        if not isinstance(text, str):
            raise _Undecodable("missing_text", f"{self.text_field!r} is {kind_of(text)}, not a string")
        return text, metadata

    def _missing(self, body: Mapping[str, Any]) -> _Undecodable:
        reason = f"no text at {self.text_field!r}; the record has {names_in(body)}: set input.text_field"
        return _Undecodable("missing_text", reason)


def _record_id(record: Record, headers: Mapping[str, bytes]) -> str:
    if record.key:
        try:
            return record.key.decode()
        except UnicodeDecodeError:
            return f"0x{record.key.hex()}"
    if "ce_id" in headers:
        return headers["ce_id"].decode("utf-8", "replace")
    return f"{record.tp.topic}-{record.tp.partition}-{record.offset}"


def _utf8(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise _Undecodable("undecodable", f"not UTF-8: {exc}") from exc


def _parse(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise _Undecodable("undecodable", f"not JSON: {exc}") from exc


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise _Undecodable("missing_text", f"the value is {kind_of(value)}, not a JSON object")


def _reach(body: Mapping[str, Any], path: str) -> Any:
    value: Any = body
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _scalar(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
