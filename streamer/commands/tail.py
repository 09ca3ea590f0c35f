"""`streamer tail`: what arrives on an output topic, live."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import orjson
from rich.console import Console

from streamer.app.kafka import open_changelog
from streamer.core.events import Record
from streamer.settings import Settings

STREAMS = ("vectors", "verdicts", "dead-letters")
SHOWN = 100  # characters of a text


async def tail(settings: Settings, stream: str, *, from_beginning: bool, limit: int | None, as_json: bool) -> None:
    """Print records until `limit` or an interrupt; JSON lines with `as_json`, else one short line each."""
    topic = {
        "vectors": settings.topics.vectors,
        "verdicts": settings.topics.verdicts,
        "dead-letters": settings.topics.dead_letters,
    }[stream]
    console = Console(soft_wrap=True, highlight=False)
    shown = 0
    async with open_changelog(settings, topic, group_id=None, from_beginning=from_beginning) as changelog:
        while limit is None or shown < limit:
            for record in await changelog.poll(0.5):
                if as_json:
                    sys.stdout.buffer.write(orjson.dumps(as_document(record)) + b"\n")
                    sys.stdout.buffer.flush()
                else:
                    console.print(_line(stream, as_document(record)), markup=False)
                shown += 1
                if shown == limit:
                    return


def as_document(record: Record) -> dict[str, Any]:
    """A record as one JSON document, whatever its format."""
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
    value: Any = None
    if record.value is not None:
        if headers.get("content-type") == "application/octet-stream":
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
        parts = [value["id"], value["verdict"], similarity, like]
    else:
        vector = value["vector"]
        start = " ".join(f"{x:+.3f}" for x in vector[:4])
        hit = value.get("cache_hit") or headers.get("streamer-cache-hit") == "true"
        parts = [document["key"], f"[{start} … {len(vector)}]", "(cache)" if hit else "", value.get("text", "")[:SHOWN]]
    return "  ".join(part for part in parts if part)
