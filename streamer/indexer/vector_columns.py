"""Vector events as workers write them, many at once: a column for each of their parts.

An object for each event, and for each of its parts, costs several times what is in them. That counts where a topic is
read whole. Nothing is decided here about events that are out of the ordinary: those are read one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from streamer.core.events import Record
from streamer.core.reading import MAX_DEPTH, MAX_ID_BYTES, Unreadable, read_json
from streamer.core.sketch import FORM_HEADER, SKETCH_HEADER, unpack_all
from streamer.core.vector_events import (
    BINARY,
    JSON,
    LONGEST_NAME,
    SOURCE_TIMESTAMP,
    are_one,
    are_sources,
    lengths_of,
    read_source,
)
from streamer.core.vectors import Matrix, Space
from streamer.indexer.json_columns import read_json_values

_Found: TypeAlias = tuple[Matrix, list[str | None], list[Mapping[str, Any] | None]]  # vectors, texts, metadata
_Columns: TypeAlias = Callable[[str], list[bytes | None]]
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
    """None where any of the records is not, beyond doubt, a vector event of this space as a worker writes it, or where
    they are of several formats. `decode_vector_events` tells what they are then."""
    try:
        return _read(records, space)
    except (Unreadable, ValueError, TypeError, OverflowError):  # which one, and why, is told there
        return None


def _read(records: Sequence[Record], space: Space) -> VectorColumns | None:
    column = _header_columns(records)
    if column(SOURCE_TIMESTAMP).count(None) < len(records) or any(record.unreadable is not None for record in records):
        return None
    timestamps = [record.timestamp for record in records]
    ids = _ids(records)
    sketches = unpack_all([each or b"" for each in column(SKETCH_HEADER)])
    if ids is None or sketches is None or min(timestamps) < 0:
        return None
    values = [record.value or b"" for record in records]
    formats = {*column("content-type")}
    if formats == {BINARY.encode()}:
        found = _binary(values, column, space)
    elif formats == {JSON.encode()}:
        found = _json(ids, values, space)
    else:
        return None
    if found is None or not are_one(lengths_of(found[0])).all():
        return None
    forms = [each or b"" for each in column(FORM_HEADER)]
    return VectorColumns(ids, found[0], timestamps, sketches, forms, *found[1:])


def _header_columns(records: Sequence[Record]) -> _Columns:
    """What tells the values of a header, None for a record that has none. Of one that occurs twice the last counts."""
    all_headers = [record.headers for record in records]
    names = [name for name, _ in all_headers[0]]
    count = len(names)
    if {*map(len, all_headers)} == {count}:
        # Nearly always, and in half the time: of a worker's records, which have the same ones in the same order.
        flat: list[Any] = [*chain.from_iterable(chain.from_iterable(all_headers))]
        if flat[::2] == names * len(all_headers):
            columns = {name: flat[2 * place + 1 :: 2 * count] for place, name in enumerate(names)}
            none = [None] * len(all_headers)
            return lambda name: columns.get(name, none)
    by_name = [dict(headers) for headers in all_headers]
    return lambda name: [headers.get(name) for headers in by_name]


def _ids(records: Sequence[Record]) -> list[str] | None:
    """See check_id, of which this is what nearly all ids pass."""
    ids = [record.key.decode() for record in records if record.key is not None]
    plain = len(ids) == len(records) and "".join(ids).isprintable() and max(map(len, ids)) <= MAX_ID_BYTES // 4
    return ids if plain else None


def _binary(values: Sequence[bytes], column: _Columns, space: Space) -> _Found | None:
    about = {"streamer-space": space.id, "streamer-dimensions": str(space.dimensions)}
    if not all(column(name).count(value.encode()) == len(values) for name, value in about.items()):
        return None
    if {*map(len, values)} != {4 * space.dimensions}:
        return None
    if not all(len(model.decode()) <= LONGEST_NAME for model in {*column("streamer-model")} if model is not None):
        return None
    if not are_sources([source for source in column("streamer-source") if source is not None]):
        return None
    vectors = np.frombuffer(b"".join(values), "<f4").reshape(len(values), -1).astype(np.float32, copy=False)
    texts = [None if text is None else text.decode() for text in column("streamer-text")]
    described = column("streamer-metadata")
    longest = max((len(value) for value in described if value is not None), default=0)
    read = orjson.loads if longest <= _SHALLOW else read_json
    return vectors, texts, [None if value is None else _object(read(value)) for value in described]


def _json(ids: Sequence[str], values: Sequence[bytes], space: Space) -> _Found | None:
    if (read := read_json_values(ids, values, space.dimensions)) is None:
        return None
    vectors, documents = read
    for document in documents:
        dimensions, source = document.get("dimensions"), document.get("source")
        if document.get("space") != space.id or type(dimensions) is not int or dimensions != space.dimensions:
            return None
        if len(str(document.get("model", ""))) > LONGEST_NAME:
            return None
        if source is not None:
            read_source(source)  # raises ValueError or its like for what is none
    texts = [text if isinstance(text := document.get("text"), str) else None for document in documents]
    return vectors, texts, [_object(document.get("metadata")) for document in documents]


def _object(document: Any) -> Mapping[str, Any] | None:
    return document if isinstance(document, dict) else None
