"""Records to events: the formats in which texts may come, and what becomes of a record that holds none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from streamer.core.events import DeadLetter, Event, Input, Origin, Record, Tombstone
from streamer.core.reading import (
    EMPTY,
    MAX_ID_BYTES,
    MAX_VALUE_BYTES,
    Unreadable,
    check_id,
    clean_text,
    connect_payload,
    is_blank,
    is_connect_envelope,
    key_text,
    read_base64,
    read_framed,
    read_json,
    read_prose,
    recoded,
    schema_frame,
)
from streamer.core.text_fields import kind_of, locate, names_in, reach

InputFormat: TypeAlias = Literal["auto", "json", "text"]

_BRACE = ord("{")
_CLOUD_EVENTS = "application/cloudevents"
_TELLING = frozenset({"content-type", "ce_id", "ce_specversion"})  # headers that say how to read a value


@dataclass(frozen=True, slots=True)
class _Content:
    """A decoded value: a text, or the JSON object that holds it; None deletes. `attributes`: of the CloudEvent around
    it. `prefixes`: what paths may begin with, from outside in, because that is where the object was."""

    body: str | dict[str, Any] | None
    attributes: Mapping[str, Any]
    prefixes: tuple[str, ...] = ()


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
        return self._usual(record, origin) or self._unusual(record, origin)

    def decode_all(self, records: Iterable[Record], origins: Iterable[Origin]) -> list[Input]:
        """The same of many."""
        return [self._usual(*read) or self._unusual(*read) for read in zip(records, origins, strict=True)]

    def tombstone_id(self, record: Record) -> str:
        """The id that a tombstone with this record's key and headers would have; "" where it could not be read."""
        try:
            return self._record_id(record, _attributes(dict(record.headers)))
        except Unreadable:
            return ""

    def _usual(self, record: Record, origin: Origin) -> Event | None:
        """What `_unusual` makes of an object with the text in one of its fields, in a quarter of the time; or None."""
        value, key = record.value, record.key
        if not value or value[0] != _BRACE or len(value) > MAX_VALUE_BYTES or self.format == "text" or self.id_field:
            return None
        if record.unreadable is not None or (record.headers and not _TELLING.isdisjoint(dict(record.headers))):
            return None
        try:
            document = read_json(value)
            text = None if "specversion" in document or "payload" in document else document.pop(self.text_field, None)
            if type(text) is not str:
                return None
            if not (text.isascii() and text[:1].isalnum()) and is_blank(text := clean_text(text)):
                return None
            if key and not self.key_field and key.isascii() and key[0] != _BRACE and len(key) <= MAX_ID_BYTES:
                id = key.decode()
                if id.isprintable():  # nearly always; the other way has the rest
                    return Event(origin, record, id, text, document)
            return Event(origin, record, self._record_id(record, {}), text, document)
        except Exception:  # noqa: BLE001  # it is raised again there, where more is said about it
            return None

    def _unusual(self, record: Record, origin: Origin) -> Input:
        try:
            if record.unreadable is not None:
                return DeadLetter(origin, record, "undecodable", record.unreadable)
            headers = dict(record.headers)
            if record.value is None:
                return Tombstone(origin, record, self._record_id(record, _attributes(headers)))
            if (size := len(record.value)) > MAX_VALUE_BYTES:
                raise Unreadable(f"the value has {size} bytes, the limit is {MAX_VALUE_BYTES}", "too_large")
            return self._event(record, origin, headers)
        except Unreadable as exc:
            return DeadLetter(origin, record, exc.kind, str(exc))
        except Exception as exc:  # noqa: BLE001  # one record must not end the process, even if this is a bug
            return DeadLetter(origin, record, "undecodable", f"decoding failed: {exc!r}")

    def _event(self, record: Record, origin: Origin, headers: Mapping[str, bytes]) -> Input:
        content = self._content(record.value or b"", headers)
        if content.body is None:
            return Tombstone(origin, record, self._record_id(record, content.attributes))
        document: dict[str, Any] = content.body if isinstance(content.body, dict) else {}
        if content.attributes:
            document = {**content.attributes, **document}
        own_id = _scalar(reach(document, self._steps(document, self.id_field, content))) if self.id_field else None
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
        """Where the path leads to. In a CloudEvent `data.text` and `text` name the same field, in a Connect envelope
        `payload.text` and `text`."""
        steps = locate(document, path)
        for prefix in content.prefixes:
            if steps is None and path.startswith(prefix):
                path = path.removeprefix(prefix)
                steps = locate(document, path)
        return steps

    def _content(self, value: bytes, headers: Mapping[str, bytes]) -> _Content:
        media_type = charset = ""
        if "content-type" in headers:
            media_type, charset = _media_type(headers["content-type"].decode("latin-1"))
        if media_type.startswith(_CLOUD_EVENTS):
            if not media_type.endswith("+json") or media_type.startswith(f"{_CLOUD_EVENTS}-batch"):
                raise Unreadable(f"{media_type!r} is not read: only single CloudEvents in JSON are")
            return self._structured(_object(read_json(value)))
        body, prefixes = self._unwrapped(self._body(value, media_type, charset))
        if isinstance(body, dict) and _is_cloud_event(body):
            return self._structured(body)
        attributes = _attributes(headers)
        return _Content(body, attributes, ("data.", *prefixes) if attributes else prefixes)

    def _unwrapped(self, body: str | dict[str, Any]) -> tuple[str | dict[str, Any] | None, tuple[str, ...]]:
        """The payload of a Connect envelope and the prefix that paths may have for it; else the body itself."""
        if not isinstance(body, dict) or not is_connect_envelope(body):
            return body, ()
        payload = connect_payload(body)
        if isinstance(payload, bytes):
            payload = self._body(payload, "", "")
        return None if payload is None else self._text_or_object(payload), ("payload.",)

    def _body(self, value: bytes, media_type: str, charset: str) -> str | dict[str, Any]:
        """A value of this media type ("": unknown), whether it came in a record or in a CloudEvent."""
        if schema_frame(value) is not None:
            return self._text_or_object(read_framed(value))
        if self.format == "text":
            return read_prose(value, declared=True, charset=charset)
        if self.format == "json" or "json" in media_type:
            return self._text_or_object(read_json(recoded(value, charset)))
        if media_type.startswith("text/"):
            return read_prose(value, declared=True, charset=charset)
        if media_type:
            hint = 'set input.format = "json" or "text" to read it all the same'
            raise Unreadable(f"the content type {media_type[:100]!r} is neither text nor JSON; {hint}")
        return self._sniffed(value)

    def _sniffed(self, value: bytes) -> str | dict[str, Any]:
        """JSON if it is an object, an array, a string or null; else plain text."""
        start = value if value[:1] == b"{" else value.removeprefix(b"\xef\xbb\xbf").strip()
        if start[:1] in (b'"', b"[") or start == b"null":
            try:
                return self._text_or_object(read_json(value))
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

    def _text_or_object(self, value: Any) -> str | dict[str, Any]:
        """A JSON string is the text, unless it is an object with the text that a producer encoded twice."""
        if not isinstance(value, str):
            return _object(value)
        if value.lstrip()[:1] == "{":
            with suppress(Unreadable):
                inner = read_json(value.encode())
                if isinstance(inner, dict) and locate(inner, self.text_field) is not None:
                    return inner
        return value

    def _structured(self, envelope: dict[str, Any]) -> _Content:
        attributes = {name: value for name, value in envelope.items() if name not in ("data", "data_base64")}
        media_type, charset = _media_type(str(envelope.get("datacontenttype") or ""))
        encoded, data = envelope.get("data_base64"), envelope.get("data")
        if encoded is not None:
            data = self._body(read_base64(str(encoded), "CloudEvents data_base64"), media_type, charset)
        elif isinstance(data, str):
            # With a JSON type this is the JSON string itself; else it is what the type says.
            is_value = "json" in media_type or self.format == "json"
            data = self._text_or_object(data) if is_value else self._body(data.encode(), media_type, "")
        elif not isinstance(data, dict):
            raise Unreadable(f"CloudEvents data is {kind_of(data)}, not a string or an object", "missing_text")
        body, prefixes = self._unwrapped(data)
        return _Content(body, attributes, ("data.", *prefixes))

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
        id = (self._inside_key(record.key) if self.key_field else key_text(record.key)) if record.key else ""
        if id:
            return check_id(id)
        own = attributes.get("id")
        if isinstance(own, str) and own:
            return check_id(own)
        return f"{record.tp.topic}-{record.tp.partition}-{record.offset}"

    def _inside_key(self, key: bytes) -> str:
        """What `key_field` finds in the key. Raises Unreadable: any other id would differ from that of a tombstone."""
        try:
            document = read_framed(key) if schema_frame(key) is not None else read_json(key)
        except Unreadable as exc:
            raise Unreadable(f"the record key: {exc} (input.key_field reads JSON keys)") from exc
        path = self.key_field or ""
        steps = locate(document, path)
        if steps is None and is_connect_envelope(document):
            document = connect_payload(document)
            steps = locate(document, path)
        found = _scalar(reach(document, steps))
        if not found:
            raise Unreadable(f"the record key has no string or whole number at {self.key_field!r} (input.key_field)")
        return found


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


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise Unreadable(f"the value is {kind_of(value)}, not a JSON object", "missing_text")


def _scalar(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
