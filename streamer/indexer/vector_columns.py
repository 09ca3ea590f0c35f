"""Vector events as workers write them in the binary format, many at once: a column for each of their parts.

An object for each event, and for each of its parts, costs several times what is in them. That counts where a topic is
read whole. Nothing is decided here about events that are out of the ordinary: those are read one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from streamer.core.events import Record
from streamer.core.reading import MAX_DEPTH, MAX_ID_BYTES, Unreadable, read_json
from streamer.core.sketch import FORM_HEADER, SKETCH_HEADER, unpack_all
from streamer.core.vector_events import BINARY, LONGEST_NAME, SOURCE_TIMESTAMP, are_one, are_sources, lengths_of
from streamer.core.vectors import Matrix, Space

_SHALLOW: Final = 2 * MAX_DEPTH  # bytes: each level of shorter JSON would need two of them


@dataclass(slots=True)
class VectorColumns:
    """Events of one space, in order; in each column what `decode_vector_events` would find, as far as an index is to
    remember it.

    `vectors`: (n, dimensions), of unit length, read-only. `sketches`: (n, UNPACKED_BYTES); every event has one.
    `forms`: still packed, as few of them are ever looked at; empty or malformed where there is none.
    """

    ids: list[str]
    vectors: Matrix
    timestamps: list[int]
    sketches: NDArray[np.uint8]
    forms: list[bytes]
    texts: list[str | None]
    metadata: list[Mapping[str, Any] | None]

    def __len__(self) -> int:
        return len(self.ids)


def read_columns(records: Sequence[Record], space: Space) -> VectorColumns | None:
    """None where any of the records is not, beyond doubt, a vector event of this space in the binary format, with a
    key and a sketch. `decode_vector_events` tells what they are then."""
    try:
        return _read(records, space)
    except (Unreadable, ValueError):  # which one, and why, is told there
        return None


def _read(records: Sequence[Record], space: Space) -> VectorColumns | None:
    headers = [dict(record.headers) for record in records]  # of one that occurs twice the last one counts

    def column(name: str) -> list[bytes | None]:
        return [each.get(name) for each in headers]

    about = {"content-type": BINARY, "streamer-space": space.id, "streamer-dimensions": str(space.dimensions)}
    if not all(column(name).count(value.encode()) == len(records) for name, value in about.items()):
        return None
    if any(SOURCE_TIMESTAMP in each for each in headers) or any(record.unreadable is not None for record in records):
        return None
    timestamps = [record.timestamp for record in records]
    models, sources = set(column("streamer-model")), column("streamer-source")
    if (
        min(timestamps) < 0
        or not all(len(model.decode()) <= LONGEST_NAME for model in models if model is not None)
        or not are_sources([source for source in sources if source is not None])
    ):
        return None
    ids = _ids(records)
    vectors = _vectors(records, space.dimensions)
    sketches = unpack_all([each.get(SKETCH_HEADER, b"") for each in headers])
    if ids is None or vectors is None or sketches is None:
        return None
    return VectorColumns(
        ids,
        vectors,
        timestamps,
        sketches,
        [each.get(FORM_HEADER, b"") for each in headers],
        [None if text is None else text.decode() for text in column("streamer-text")],
        _metadata(column("streamer-metadata")),
    )


def _ids(records: Sequence[Record]) -> list[str] | None:
    """See check_id, of which this is what nearly all ids pass."""
    ids = [record.key.decode() for record in records if record.key is not None]
    plain = len(ids) == len(records) and "".join(ids).isprintable() and max(map(len, ids)) <= MAX_ID_BYTES // 4
    return ids if plain else None


def _vectors(records: Sequence[Record], dimensions: int) -> Matrix | None:
    values = [record.value or b"" for record in records]
    if {*map(len, values)} != {4 * dimensions}:
        return None
    vectors = np.frombuffer(b"".join(values), "<f4").reshape(len(values), dimensions).astype(np.float32, copy=False)
    return vectors if are_one(lengths_of(vectors)).all() else None


def _metadata(values: Sequence[bytes | None]) -> list[Mapping[str, Any] | None]:
    longest = max((len(value) for value in values if value is not None), default=0)
    read = orjson.loads if longest <= _SHALLOW else read_json
    documents = [None if value is None else read(value) for value in values]
    return [document if isinstance(document, dict) else None for document in documents]
