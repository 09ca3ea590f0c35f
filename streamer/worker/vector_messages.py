"""Vector events as messages, those of a batch at once: a part after the other, each for all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np
import orjson

from streamer.core.events import (
    EmbeddedEvent,
    Event,
    HeaderColumn,
    Headers,
    MessageColumns,
    Piece,
    Record,
    TopicPartition,
)
from streamer.core.sketch import FORM_HEADER, SKETCH_HEADER
from streamer.core.vectors import Space, Vector
from streamer.worker.descriptions import descriptions
from streamer.worker.json_vectors import json_vectors

_T = TypeVar("_T")
OutputFormat: TypeAlias = Literal["json", "binary"]

_JSON: Final = ("content-type", b"application/json")
_BINARY: Final = ("content-type", b"application/octet-stream")
_BOOLEANS: Final = (b"false", b"true")
_LITTLE: Final = np.dtype("<f4")
_value: Final = itemgetter(1)
_tp: Final = attrgetter("tp")


class _Batch(NamedTuple):
    """Vector events, and a column for each of the parts of them that are looked at or made."""

    outcomes: Sequence[EmbeddedEvent]
    events: Sequence[Event]
    vectors: Sequence[Piece]
    sketches: Sequence[bytes]
    forms: Sequence[bytes]

    def of(self, places: Sequence[int]) -> _Batch:
        return _Batch(
            [self.outcomes[place] for place in places],
            [self.events[place] for place in places],
            [self.vectors[place] for place in places],
            [self.sketches[place] for place in places],
            [self.forms[place] for place in places],
        )


class _Layout(NamedTuple):
    """What differs between the headers of vector events: the names of those that pass through, and whether metadata are
    one of them."""

    foreign: tuple[str, ...]
    has_metadata: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorMessages:
    """What vector events look like in the vector topic."""

    space: Space
    topic: str
    format: OutputFormat
    include_text: bool
    include_metadata: bool
    space_headers: Headers = field(init=False, repr=False)
    _about_space: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        space = self.space
        constant = {"space": space.id, "model": space.model, "dimensions": str(space.dimensions)}
        headers = tuple((f"streamer-{name}", value.encode()) for name, value in constant.items())
        object.__setattr__(self, "space_headers", headers)
        about = orjson.dumps({"model": space.model, "space": space.id, "dimensions": space.dimensions})
        object.__setattr__(self, "_about_space", about[1:-1])

    def made_of(
        self, outcomes: Sequence[EmbeddedEvent], left_out: Sequence[str] = ()
    ) -> Iterator[tuple[Sequence[int], MessageColumns]]:
        """All of them, in groups whose headers have the same names, each with the places of its outcomes; nearly always
        that is one group. `left_out`: what the events go without, of "text", "metadata" and "headers".

        Raises ValueError for vectors of several lengths, which is a bug.
        """
        rows = [outcome.vector for outcome in outcomes]
        vectors: Sequence[Piece] = _binary(rows) if self.format == "binary" else json_vectors(rows)
        events = [outcome.event for outcome in outcomes]
        # Of the texts as they came: prefixes and truncation are the model's business.
        described = descriptions([event.text for event in events])
        groups = self._layouts(events, left_out)
        for layout, places in groups.items():
            batch = _Batch(outcomes, events, vectors, *described)
            yield places, self._columns(batch if len(groups) == 1 else batch.of(places), layout, left_out)

    def _layouts(self, events: Sequence[Event], left_out: Sequence[str]) -> Mapping[_Layout, Sequence[int]]:
        """The places of events by their layout."""
        headers = [event.record.headers for event in events]
        has_foreign = "headers" not in left_out and any(headers)
        names: Sequence[tuple[str, ...]] = [*map(_foreign_names, headers)] if has_foreign else [()] * len(events)
        may_have = self.format == "binary" and self.include_metadata and "metadata" not in left_out
        has_metadata = [may_have and bool(event.metadata) for event in events]
        if _is_same(names) and _is_same(has_metadata):
            return {_Layout(names[0], has_metadata[0]): range(len(events))}
        groups: defaultdict[_Layout, list[int]] = defaultdict(list)
        for place, layout in enumerate(map(_Layout, names, has_metadata)):
            groups[layout].append(place)
        return groups

    def _columns(self, batch: _Batch, layout: _Layout, left_out: Sequence[str]) -> MessageColumns:
        outcomes, events, vectors, sketches, forms = batch
        records = [event.record for event in events]
        headers: list[HeaderColumn] = [*_passing_through(layout.foreign, records), *self.space_headers]
        headers.append(("streamer-source", _sources(records)))
        if left_out:
            headers.append(("streamer-left-out", ", ".join(left_out).encode()))
        headers += [(SKETCH_HEADER, sketches), (FORM_HEADER, forms)]
        texts = [event.text for event in events] if self.include_text and "text" not in left_out else None
        if self.format == "binary":
            headers += [
                _BINARY,
                ("streamer-tokens", _written([outcome.tokens for outcome in outcomes], b"%d".__mod__)),
                ("streamer-truncated", _written([outcome.truncated for outcome in outcomes], _BOOLEANS.__getitem__)),
                ("streamer-cache-hit", _written([outcome.cache_hit for outcome in outcomes], _BOOLEANS.__getitem__)),
            ]
            if texts is not None:
                headers.append(("streamer-text", [text.encode() for text in texts]))
            if layout.has_metadata:
                headers.append(("streamer-metadata", [orjson.dumps(event.metadata) for event in events]))
            values: tuple[Sequence[Piece], ...] = (vectors,)
            value_bytes = [_LITTLE.itemsize * len(outcomes[0].vector)] * len(outcomes)
        else:
            headers.append(_JSON)
            ids = [b'{"id":%b,"vector":' % orjson.dumps(event.id) for event in events]
            values = (ids, vectors, self._behind_vectors(outcomes, texts, left_out))
            value_bytes = [*map(sum, zip(*(map(len, pieces) for pieces in values), strict=True))]
        return MessageColumns(
            topic=self.topic,
            keys=[event.id.encode() for event in events],
            values=values,
            value_bytes=value_bytes,
            headers=headers,
            timestamps=[record.timestamp for record in records],
            origins=[event.origin for event in events],
        )

    def _behind_vectors(
        self, outcomes: Sequence[EmbeddedEvent], texts: Sequence[str] | None, left_out: Sequence[str]
    ) -> list[bytes]:
        """What is written after the vector in the JSON object."""
        written_texts = (
            [b""] * len(outcomes) if texts is None else [b',"text":%b' % orjson.dumps(text) for text in texts]
        )
        with_metadata = self.include_metadata and "metadata" not in left_out
        written = []
        for outcome, text in zip(outcomes, written_texts, strict=True):
            record, metadata = outcome.event.record, outcome.event.metadata
            written.append(
                b',%b,"truncated":%b,"tokens":%d,"cache_hit":%b,"source":{%b,"offset":%d,"timestamp":%d}%b%b}'
                % (
                    self._about_space, _BOOLEANS[outcome.truncated], outcome.tokens, _BOOLEANS[outcome.cache_hit],
                    _as_json(record.tp), record.offset, record.timestamp, text,
                    b',"metadata":%b' % orjson.dumps(metadata) if with_metadata and metadata else b"",
                )
            )  # fmt: skip
        return written


def _is_same(column: Sequence[Any]) -> bool:
    return column.count(column[0]) == len(column)


def _written(column: Sequence[_T], write: Callable[[_T], bytes]) -> bytes | Sequence[bytes]:
    """A column of a header, or what is the same in all of it."""
    return write(column[0]) if _is_same(column) else [*map(write, column)]


def _binary(vectors: Sequence[Vector]) -> Sequence[Piece]:
    """What holds the bytes of each: nearly always the vector itself, so that they are copied once, into their batch."""
    if len(set(map(len, vectors))) > 1:
        raise ValueError("vectors of one batch have different lengths. This is a bug.")
    rows = [row if row.dtype is _LITTLE and row.flags.c_contiguous else row.astype(_LITTLE) for row in vectors]
    return cast("Sequence[Piece]", rows)


def is_foreign(header: tuple[str, bytes]) -> bool:
    """Whether it passes through from the input."""
    return header[0] != "content-type" and not header[0].startswith("streamer-")


def _foreign_names(headers: Headers) -> tuple[str, ...]:
    return tuple([name for name, _ in filter(is_foreign, headers)])


def _passing_through(names: tuple[str, ...], records: Sequence[Record]) -> Iterator[HeaderColumn]:
    if not names:
        return iter(())
    values = [map(_value, filter(is_foreign, record.headers)) for record in records]
    return zip(names, zip(*values, strict=True), strict=True)


def source(record: Record) -> bytes:
    """`topic/partition/offset` of a record, as every output carries it."""
    return _sources([record])[0]


def _sources(records: Sequence[Record]) -> list[bytes]:
    """The same of many, of which neighbours come from one partition."""
    found: list[bytes] = []
    for tp, neighbours in groupby(records, _tp):
        path = _as_path(tp)
        found += [b"%b%d" % (path, record.offset) for record in neighbours]
    return found


@lru_cache(1024)
def _as_path(tp: TopicPartition) -> bytes:
    return f"{tp.topic}/{tp.partition}/".encode()


@lru_cache(1024)
def _as_json(tp: TopicPartition) -> bytes:
    return orjson.dumps({"topic": tp.topic, "partition": tp.partition})[1:-1]
