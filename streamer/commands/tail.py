"""`streamer tail`: what arrives on an output topic, live."""

from __future__ import annotations

import sys
from typing import Any, get_args

import anyio
import numpy as np
import orjson
from rich.console import Console

from streamer.app.kafka import open_changelog
from streamer.app.migrations import settings_of_readers
from streamer.commands.terminal import one_line
from streamer.core.events import Record
from streamer.core.verdicts import VerdictKind
from streamer.errors import ConfigurationError, DeadLetterKind
from streamer.protocols import Changelog
from streamer.settings import Settings

_REASONS = {"both": "content and form"}
STREAMS = ("vectors", "verdicts", "dead-letters")
SHOWN = 100  # characters of a text
SETTLE_SECONDS = 0.3
QUIET_SECONDS = 1.5  # without a record, after which it is said that there is nothing to show yet


async def tail(
    settings: Settings, stream: str, *, kind: str | None, from_beginning: bool, limit: int | None, as_json: bool
) -> None:
    """Print records until `limit` or an interrupt; JSON lines with `as_json`, else one short line each. `kind`: only
    verdicts or dead letters of that kind. After a change of the model they are those of the model that answers."""
    kind = _known(stream, kind)
    topic = _topic_of(stream, await settings_of_readers(settings))
    if topic != (own := _topic_of(stream, settings)):
        print(f"following {topic!r}: the model of {own!r} has been changed", file=sys.stderr, flush=True)  # noqa: T201
    console = Console(soft_wrap=True, highlight=False)
    hints = _Hints(stream, topic, kind, from_beginning=from_beginning)
    shown = 0
    async with open_changelog(settings, topic, group_id=None, from_beginning=from_beginning) as changelog:
        if not from_beginning:
            await _settle(changelog)
        while limit is None or shown < limit:
            records = await changelog.poll(0.5)
            for document in map(as_document, records):
                if kind is not None and kind != _kind_of(stream, document):
                    continue
                if as_json:
                    sys.stdout.buffer.write(orjson.dumps(document) + b"\n")
                    sys.stdout.buffer.flush()
                else:
                    console.print(_line(stream, document), markup=False)
                    hints.seen(document)
                shown += 1
                if shown == limit:
                    return
            hints.waited(shown)


def _topic_of(stream: str, settings: Settings) -> str:
    topics = settings.topics
    return {"vectors": topics.vectors, "verdicts": topics.verdicts, "dead-letters": topics.dead_letters}[stream]


async def _settle(changelog: Changelog) -> None:
    """Drop what is there at once: the embedded broker takes the last batch of a topic for new."""
    until = anyio.current_time() + SETTLE_SECONDS
    while (left := until - anyio.current_time()) > 0:
        await changelog.poll(left)


def _known(stream: str, kind: str | None) -> str | None:
    """A kind as records spell it. Raises ConfigurationError for one that the stream does not have."""
    if kind is None:
        return None
    kinds = {"verdicts": get_args(VerdictKind), "dead-letters": get_args(DeadLetterKind)}.get(stream, ())
    found = kind.replace("-", "_")
    if found not in kinds:
        known = f"{stream} are of the kinds {', '.join(kinds)}" if kinds else f"{stream} have no kinds"
        raise ConfigurationError(f"--kind {kind}: {known}")
    return found


def _kind_of(stream: str, document: dict[str, Any]) -> str | None:
    if stream == "dead-letters":
        kind: str | None = document["headers"].get("streamer-error-kind")
        return kind
    value = document["value"]
    return value.get("verdict") if isinstance(value, dict) else None


class _Hints:
    """What a person who sees too little is told, once each, on standard error."""

    def __init__(self, stream: str, topic: str, kind: str | None, *, from_beginning: bool) -> None:
        things = f"{kind} {stream}" if kind else stream
        new, more = ("", "") if from_beginning else ("new ", " (--from-beginning for all)")
        self._waiting: str | None = f"waiting for {new}{things} on {topic!r}{more}"
        self._textless: str | None = "no texts: the worker runs with output.include_text = false"
        self._is_about_texts = stream == "vectors"
        self._since = anyio.current_time()

    def waited(self, shown: int) -> None:
        if self._waiting and (shown or anyio.current_time() - self._since >= QUIET_SECONDS):
            if not shown:
                print(self._waiting, file=sys.stderr, flush=True)  # noqa: T201
            self._waiting = None

    def seen(self, document: dict[str, Any]) -> None:
        if self._textless and self._is_about_texts and document["value"] is not None and not _text_of(document):
            print(self._textless, file=sys.stderr, flush=True)  # noqa: T201
            self._textless = None


def as_document(record: Record) -> dict[str, Any]:
    """A record as one JSON document, whatever its format."""
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
    value: Any = None
    if record.value is not None:
        is_vector = headers.get("content-type") == "application/octet-stream" and len(record.value) % 4 == 0
        if is_vector:
            value = {"vector": np.frombuffer(record.value, "<f4").tolist()}
        else:
            try:
                value = orjson.loads(record.value)
            except orjson.JSONDecodeError:
                value = record.value.decode("utf-8", "replace")
    key = record.key.decode("utf-8", "replace") if record.key is not None else None
    return {"key": key, "value": value, "headers": headers, "timestamp": record.timestamp,
            "partition": record.tp.partition, "offset": record.offset}  # fmt: skip


def _line(stream: str, document: dict[str, Any]) -> str:
    """One line, whatever a stranger may have written into the topic."""
    try:
        parts = _parts(stream, document)
        line = "  ".join(part for part in parts if part)
    except (AttributeError, KeyError, TypeError, ValueError):
        value = document["value"]
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        line = f"{document['key'] or '?'}  of another format  {text[:SHOWN]}"
    return one_line(line)


def _parts(stream: str, document: dict[str, Any]) -> list[str]:
    """Raises one of several errors for what streamer has not written."""
    value, headers = document["value"], document["headers"]
    if value is None:
        parts = [document["key"], "deleted"]
    elif stream == "dead-letters":
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        names = ("streamer-error-kind", "streamer-source", "streamer-error")
        parts = [*(headers.get(name, "?") for name in names), text[:SHOWN]]
    elif stream == "verdicts":
        similarity = "" if value.get("similarity") is None else f"{value['similarity']:.3f}"
        like = f"like {value['duplicate_of']}" if value.get("duplicate_of") else ""
        # Both p-values are on every verdict; the reason is on anomalies only.
        why = f"for its {_REASONS.get(value['reason'], value['reason'])}" if value.get("reason") else ""
        missing = f"{value['events_missing']} events missing" if value.get("events_missing") is not None else ""
        told = str(value.get("form_reason") or "")
        parts = [value["id"], value["verdict"], similarity, like, why, told, missing]
    else:
        vector = value["vector"]
        start = " ".join(f"{x:+.3f}" for x in vector[:4])
        hit = value.get("cache_hit") or headers.get("streamer-cache-hit") == "true"
        parts = [document["key"], f"[{start} … {len(vector)}]", "(cache)" if hit else "", _text_of(document)[:SHOWN]]
    return parts


def _text_of(document: dict[str, Any]) -> str:
    """A vector event's text, in either format; empty without `output.include_text`."""
    value = document["value"]
    inside = value.get("text") if isinstance(value, dict) else None
    return str(inside or document["headers"].get("streamer-text", ""))
