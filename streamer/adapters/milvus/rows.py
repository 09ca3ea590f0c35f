"""Events as rows of a Milvus collection, and back."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import blake2b
from math import isnan, nan
from typing import Any, Final

import numpy as np
import orjson

from streamer.core.reading import MAX_ID_BYTES
from streamer.stores import StoredEvent

# Nobody writes ids into an expression: the key is safe in every one, and short.
KEY_LENGTH: Final = 32

LONGEST_ID: Final = MAX_ID_BYTES
LONGEST_TEXT: Final = 8_000  # bytes; 1,000 characters are kept
LONGEST_SKETCH: Final = 200
LONGEST_FORM: Final = 200

_UNKNOWN: Final = -9.0  # no cosine; a column of floats has no other way to say that there is none

FIELDS: Final = (
    "id", "topic_partition", "topic_offset", "event_time", "arrival", "density", "surprise", "first", "judged",
    "sketch", "form", "text", "metadata",
)  # fmt: skip


def key_of(id: str) -> str:
    """The primary key of an event."""
    return blake2b(id.encode("utf-8", "surrogatepass"), digest_size=KEY_LENGTH // 2).hexdigest()


def row_of(event: StoredEvent) -> dict[str, Any]:
    return {
        "key": key_of(event.id),
        "vector": event.vector,
        "id": event.id,
        "topic_partition": event.partition,
        "topic_offset": event.offset,
        "event_time": event.time,
        "arrival": event.arrival,
        "density": _UNKNOWN if isnan(event.density) else event.density,
        "surprise": event.surprise,
        "first": event.first or "",
        "judged": event.is_judged,
        "sketch": "" if event.sketch is None else b64encode(event.sketch).decode(),
        "form": "" if event.form is None else orjson.dumps(list(event.form)).decode(),
        "text": event.text,
        "metadata": None if event.metadata is None else dict(event.metadata),
    }


def event_of(row: Mapping[str, Any]) -> StoredEvent:
    """Raises KeyError, TypeError and ValueError for what is no such row."""
    density, vector = float(row["density"]), row.get("vector")
    return StoredEvent(
        id=str(row["id"]),
        partition=int(row["topic_partition"]),
        offset=int(row["topic_offset"]),
        time=int(row["event_time"]),
        arrival=int(row["arrival"]),
        density=nan if density == _UNKNOWN else density,
        surprise=float(row["surprise"]),
        first=row["first"] or None,
        is_judged=bool(row["judged"]),
        sketch=b64decode(row["sketch"]) if row["sketch"] else None,
        form=tuple(orjson.loads(row["form"])) if row["form"] else None,
        text=row["text"],
        metadata=row["metadata"],
        vector=None if vector is None else np.asarray(vector, np.float32),
    )
