"""What the judge needs of an index of events, and what such an index is given to keep of each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

from streamer.core.vector_events import VectorEvent
from streamer.core.vectors import Matrix, Vector
from streamer.core.verdicts import Match
from streamer.indexer.index.payloads import NOTHING_MORE, Notes, Payload, PayloadColumns
from streamer.indexer.index.read_view import ReadView
from streamer.indexer.index.rotation import Rotation
from streamer.indexer.vector_columns import VectorColumns

_LONGEST_TEXT: Final = 1_000  # characters remembered of a text
_LARGEST_METADATA: Final = 2_000  # bytes of JSON remembered with an event


class SearchableEvents(Protocol):
    """What others than the judge ask of an index, from their own thread."""

    def __contains__(self, id: str) -> bool: ...

    def get(self, id: str) -> Vector | None:
        """A copy of the vector of this id, None when it is not (or no longer) known."""
        ...

    def payload(self, id: str) -> Any:
        """What was remembered along with the vector of this id; None when it is not (or no longer) known."""
        ...

    def payloads(self, ids: Collection[str]) -> Mapping[str, Any]:
        """The same of those of these ids that are remembered."""
        ...

    def ids(self, most: int) -> list[str]:
        """At most so many of those that are remembered, oldest first."""
        ...

    def coordinates(self, ids: Sequence[str]) -> tuple[list[str], Matrix]:
        """Those of these ids that are remembered, and numbers (n, any) that tell their vectors apart."""
        ...

    def search(
        self,
        queries: Matrix,
        k: int,
        *,
        exclude: Collection[str] = (),
        accept: Callable[[Any], bool] | None = None,
    ) -> list[list[Match]]:
        """The `k` most similar of all remembered vectors for each query, best first, ties in order of arrival.

        `exclude`: ids that no query shall find. `accept`: what the payload of a vector (less its sketch) must be like
        for it to be found.
        """
        ...


class EventIndex(SearchableEvents, Protocol):
    """Vectors by id, in order of arrival, with a payload, a time and a note each."""

    @property
    def dimensions(self) -> int: ...

    @property
    def capacity(self) -> int: ...

    @property
    def nbytes(self) -> int:
        """Bytes reserved for vectors."""
        ...

    def __len__(self) -> int: ...

    def ages(self, now: float) -> tuple[float | None, float | None]:
        """Of the event that came first and of the one that came last, in seconds; None where nobody knows."""
        ...

    def observe(
        self,
        ids: Sequence[str],
        vectors: Matrix,
        k: int,
        payloads: Sequence[Any] = (),
        times: Sequence[int] = (),
        notes: Sequence[Any] = (),
        described: int | None = None,
    ) -> list[list[Match]]:
        """Remember a batch and tell, for each member, its `k` nearest among all that were remembered before it.

        Earlier members of the batch are among these, an older vector of the same id is not. `described`: how many of
        the nearest carry their payloads; None for all.
        """
        ...

    def insert(
        self,
        ids: Sequence[str],
        vectors: Matrix,
        payloads: Sequence[Any] = (),
        times: Sequence[int] = (),
        notes: Notes = (),
    ) -> None:
        """Remember a batch, in order, without looking for neighbours."""
        ...

    def annotate(self, ids: Sequence[str], notes: Sequence[tuple[int, float, float]]) -> None:
        """Replace the notes of vectors, where they still are the ones of these arrivals."""
        ...

    def delete(self, id: str) -> bool:
        """Forget an id; False when it is known not to have been there."""
        ...

    def expire(self, before: int) -> int:
        """Forget everything of a time before this one."""
        ...

    def search_before(self, id: str, k: int) -> list[Match]:
        """The `k` nearest of a remembered vector among those that arrived before it and are still remembered."""
        ...

    def resume(self, rotation: Rotation) -> None:
        """Go on in the coordinates of a snapshot."""
        ...

    def take_back(
        self, ids: Sequence[str], rows: Matrix, payloads: Sequence[Any], times: Sequence[int], notes: Notes
    ) -> None:
        """Remember what a snapshot holds."""
        ...

    def read_view(self) -> ReadView:
        """What a snapshot is to hold of it."""
        ...


def payload_of(event: VectorEvent) -> Payload | None:
    """What is remembered of an event along with its vector: nothing, where nothing came with it."""
    if event.sketch is None and event.text is None and event.metadata is None:
        return None
    text = None if event.text is None else event.text[:_LONGEST_TEXT]
    return Payload(event.sketch, text, _bounded(event.metadata))


def payloads_of(columns: VectorColumns) -> PayloadColumns:
    """The same of many at once."""
    metadata = columns.metadata
    if max(map(len, map(orjson.dumps, metadata)), default=0) > _LARGEST_METADATA:  # else, nearly always, all may stay
        metadata = [*map(_bounded, metadata)]
    rest = [
        Payload(None, text and text[:_LONGEST_TEXT], more or None) if more or text is not None else NOTHING_MORE
        for text, more in zip(columns.texts, metadata, strict=True)
    ]
    return PayloadColumns(columns.sketches, rest)


def _bounded(metadata: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return metadata if metadata and len(orjson.dumps(metadata)) <= _LARGEST_METADATA else None
