"""Records to events: the formats in which texts may come, and what becomes of a record that holds none."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from streamer.core.events import DeadLetter, Event, Input, Origin, Record, Tombstone
from streamer.core.reading import (
    EMPTY,
    MAX_VALUE_BYTES,
    Unreadable,
    check_id,
    clean_text,
    is_blank,
    key_text,
    read_framed,
    read_json,
    read_prose,
    schema_frame,
)
from streamer.core.text_fields import kind_of, names_in

InputFormat: TypeAlias = Literal["auto", "json", "text"]

_BRACE = ord("{")
_CLOUD_EVENTS = "application/cloudevents"
_TELLING = frozenset({"content-type", "ce_id", "ce_specversion"})  # headers that say how to read a value
# Of text/plain; UTF-8 and ASCII need no entry.
_CHARSETS = {"iso-8859-1", "latin-1", "latin1", "iso-8859-15", "windows-1252", "cp1252", "utf-16", "utf-16le",
             "utf-16be"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Content:
    """A decoded value: a text, or the JSON object that holds it. `attributes`: of the CloudEvent around it."""

    body: str | dict[str, Any]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decoder:
    """Records to inputs. `text_field` and `id_field` are paths into a JSON value, `key_field` into a JSON record key.

    Dots reach inside objects, numbers into arrays; a key that holds dots itself is found too.
    """

    format: InputFormat = "auto"
    text_field: str = "text"
    id_field: str | None = None
    key_field: str | None = None

    def decode(self, record: Record, origin: Origin) -> Input:
        """Never raises: what cannot be an Event or a Tombstone is a DeadLetter that says why.

        Event id: `id_field`, else the record key (`key_field` in it), else the CloudEvents id, else
        `topic-partition-offset`. A tombstone has no value, so its id is the key's.
        """
        if record.unreadable is not None:
            return DeadLetter(origin, record, "undecodable", record.unreadable)
        headers = dict(record.headers) if record.headers else {}
        try:
            if record.value is not None and len(record.value) > MAX_VALUE_BYTES:
                reason = f"the value has {len(record.value)} bytes, the limit is {MAX_VALUE_BYTES}"
                raise Unreadable(reason, "too_large")
            if record.value is None:
                return Tombstone(origin, record, self._record_id(record, _attributes(headers)))
            return self._usual(record, origin, headers) or self._event(record, origin, headers)
        except Unreadable as exc:
            return DeadLetter(origin, record, exc.kind, str(exc))
        except Exception as exc:  # noqa: BLE001  # one record must not end the process, even if this is a bug
            return DeadLetter(origin, record, "undecodable", f"decoding failed: {exc!r}")

    def tombstone_id(self, record: Record) -> str:
        """The id that a tombstone with this record's key and headers would have; "" where it could not be read."""
        try:
            return self._record_id(record, _attributes(dict(record.headers)))
        except Unreadable:
            return ""

    def _usual(self, record: Record, origin: Origin, headers: Mapping[str, bytes]) -> Event | None:
        """What `_event` makes of a JSON object with the text in one of its fields, at half the cost. None: not that."""
        value = record.value
        if not value or value[0] != _BRACE or self.format == "text" or self.id_field:
            return None
        if headers and not headers.keys().isdisjoint(_TELLING):
            return None
        try:
            document = read_json(value)
        except Unreadable:
            return None  # `_event` says more about it
        if "specversion" in document or type(text := document.pop(self.text_field, None)) is not str:
            return None
        text = clean_text(text)
        if is_blank(text):
            return None
        return Event(origin, record, self._record_id(record, {}), text, document)

    def _event(self, record: Record, origin: Origin, headers: Mapping[str, bytes]) -> Input:
        content = self._content(record.value or b"", headers)
        document: dict[str, Any] = content.body if isinstance(content.body, dict) else {}
        if content.attributes:
            document = {**content.attributes, **document}
        own_id = _scalar(_reach(document, self._steps(document, self.id_field, content))) if self.id_field else None
        if isinstance(content.body, str):
            text = content.body
        else:
            text = self._take_text(document, self._steps(document, self.text_field, content))
        text = clean_text(text)
        if is_blank(text):
            return DeadLetter(origin, record, "empty_text", EMPTY)
        id = check_id(own_id) if own_id else self._record_id(record, content.attributes)
        return Event(origin, record, id, text, document if document or isinstance(content.body, dict) else None)

    def _steps(self, document: Mapping[str, Any], path: str, content: _Content) -> list[Any] | None:
        """Where the path leads to. In a CloudEvent `data.text` and `text` name the same field."""
        steps = _locate(document, path)
        inside = path.removeprefix("data.")
        return _locate(document, inside) if steps is None and content.attributes and inside != path else steps

    def _content(self, value: bytes, headers: Mapping[str, bytes]) -> _Content:
        media_type = charset = ""
        if "content-type" in headers:
            media_type, charset = _media_type(headers["content-type"].decode("latin-1"))
        if media_type.startswith(_CLOUD_EVENTS):
            if not media_type.endswith("+json") or media_type.startswith(f"{_CLOUD_EVENTS}-batch"):
                raise Unreadable(f"{media_type!r} is not read: only single CloudEvents in JSON are")
            return self._structured(_object(read_json(value)))
        body = self._body(value, media_type, charset)
        if isinstance(body, dict) and _is_cloud_event(body):
            return self._structured(body)
        return _Content(body, _attributes(headers))

    def _body(self, value: bytes, media_type: str, charset: str) -> str | dict[str, Any]:
        """A value of this media type ("": unknown), whether it came in a record or in a CloudEvent."""
        if schema_frame(value) is not None:
            return _text_or_object(read_framed(value))
        if self.format == "text":
            return read_prose(_recoded(value, charset), declared=True)
        if self.format == "json" or "json" in media_type:
            return _text_or_object(read_json(value))
        if media_type.startswith("text/"):
            return read_prose(_recoded(value, charset), declared=True)
        if media_type:
            hint = 'set input.format = "json" or "text" to read it all the same'
            raise Unreadable(f"the content type {media_type[:100]!r} is neither text nor JSON; {hint}")
        return _sniffed(value)

    def _structured(self, envelope: dict[str, Any]) -> _Content:
        attributes = {name: value for name, value in envelope.items() if name not in ("data", "data_base64")}
        media_type, charset = _media_type(str(envelope.get("datacontenttype") or ""))
        encoded, data = envelope.get("data_base64"), envelope.get("data")
        if encoded is not None:
            try:
                value = base64.b64decode(str(encoded), validate=True)
            except (binascii.Error, ValueError) as exc:
                raise Unreadable(f"CloudEvents data_base64: {exc}") from exc
            return _Content(self._body(value, media_type, charset), attributes)
        if isinstance(data, str):
            # With a JSON type this is the JSON string itself; else it is what the type says.
            is_value = "json" in media_type or self.format == "json"
            return _Content(data if is_value else self._body(data.encode(), media_type, ""), attributes)
        if isinstance(data, dict):
            return _Content(data, attributes)
        raise Unreadable(f"CloudEvents data is {kind_of(data)}, not a string or an object", "missing_text")

    def _take_text(self, document: dict[str, Any], steps: list[Any] | None) -> str:
        """The text, out of the object; nothing inside the object is changed, only replaced."""
        if steps is None:
            reason = f"no text at {self.text_field!r}; the record has {names_in(document)}: set input.text_field"
            raise Unreadable(reason, "missing_text")
        inner: Any = document
        for step in steps[:-1]:
            inner[step] = inner[step].copy()
            inner = inner[step]
        text = inner.pop(steps[-1])
        if not isinstance(text, str):
            raise Unreadable(f"{self.text_field!r} is {kind_of(text)}, not a string", "missing_text")
        return text

    def _record_id(self, record: Record, attributes: Mapping[str, Any]) -> str:
        if record.key:
            inside = self._inside_key(record.key) if self.key_field else None
            return check_id(inside or key_text(record.key))
        own = attributes.get("id")
        if isinstance(own, str) and own:
            return check_id(own)
        return f"{record.tp.topic}-{record.tp.partition}-{record.offset}"

    def _inside_key(self, key: bytes) -> str | None:
        """What `key_field` finds in the key. Raises Unreadable: any other id would differ from that of a tombstone."""
        try:
            document = read_framed(key) if schema_frame(key) is not None else read_json(key)
        except Unreadable as exc:
            raise Unreadable(f"the record key: {exc} (input.key_field reads JSON keys)") from exc
        found = _scalar(_reach(document, _locate(document, self.key_field or "")))
        if not found:
            raise Unreadable(f"the record key has no string or whole number at {self.key_field!r} (input.key_field)")
        return found


def _sniffed(value: bytes) -> str | dict[str, Any]:
    """JSON if it is an object, an array, a string or null; else plain text."""
    start = value if value[:1] == b"{" else value.removeprefix(b"\xef\xbb\xbf").strip()
    if start[:1] in (b'"', b"[") or start == b"null":
        try:
            return _text_or_object(read_json(value))
        except Unreadable as exc:
            if exc.kind != "undecodable":
                raise
            return read_prose(value, declared=False)  # a quotation, a log line
    if start[:1] != b"{":
        return read_prose(value, declared=False)
    try:
        return _object(read_json(value))
    except Unreadable as exc:
        # Embedding half a JSON document as if it were prose would hide a broken producer.
        hint = '; it begins like JSON (if the topic holds plain text, set input.format = "text")'
        raise Unreadable(str(exc) + hint, exc.kind) from exc


def _is_cloud_event(body: Mapping[str, Any]) -> bool:
    """Some SDKs send the structured mode under another content type, or under none."""
    return (
        "specversion" in body
        and all(isinstance(body.get(name), str) for name in ("specversion", "id", "source", "type"))
        and ("data" in body or "data_base64" in body)
    )


def _attributes(headers: Mapping[str, bytes]) -> dict[str, str]:
    """Of a CloudEvent in binary mode."""
    if "ce_id" not in headers and "ce_specversion" not in headers:
        return {}
    return {name[3:]: value.decode("utf-8", "replace") for name, value in headers.items() if name.startswith("ce_")}


def _media_type(content_type: str) -> tuple[str, str]:
    """In lower case, without its parameters; and the charset among these."""
    media_type, *parameters = content_type.lower().split(";")
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name.strip() == "charset":
            return media_type.strip(), value.strip().strip('"')
    return media_type.strip(), ""


def _recoded(value: bytes, charset: str) -> bytes:
    if charset not in _CHARSETS:
        return value  # as UTF-8, which says what is wrong if it is not
    try:
        return value.decode(charset).encode()
    except UnicodeDecodeError as exc:
        raise Unreadable(f"not {charset}, though the content type says so: {exc}") from exc


def _text_or_object(value: Any) -> str | dict[str, Any]:
    return value if isinstance(value, str) else _object(value)


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise Unreadable(f"the value is {kind_of(value)}, not a JSON object", "missing_text")


def _locate(value: Any, path: str) -> list[Any] | None:
    """The keys and indices that lead to `path`; None when nothing is there. The longest key that fits goes first."""
    if isinstance(value, dict):
        if path in value:
            return [path]
        dots = [place for place, letter in enumerate(path) if letter == "."]
        for place in reversed(dots):
            name = path[:place]
            if name in value and (rest := _locate(value[name], path[place + 1 :])) is not None:
                return [name, *rest]
    if isinstance(value, list):
        name, _, behind = path.partition(".")
        if name.isdecimal() and len(name) < 10 and int(name) < len(value):
            index = int(name)
            if not behind:
                return [index]
            rest = _locate(value[index], behind)
            return None if rest is None else [index, *rest]
    return None


def _reach(document: Any, steps: list[Any] | None) -> Any:
    for step in steps or ():
        document = document[step]
    return None if steps is None else document


def _scalar(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
