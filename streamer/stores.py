"""What the indexer needs of a database of vectors, where one machine's memory ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from streamer.core.vectors import Matrix, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """What a VectorStore keeps of an event. `partition`, `offset`: its record in the vector topic; `time`: that
    record's, in milliseconds since the epoch. `arrival`: its number in the order of arrival.

    `first`: the id of the first of its near-duplicates, None where it has none before it; `is_judged`: False where it
    was remembered without a verdict. `density`, `surprise`: see the indexer's Note. `vector`: None where not asked for.
    """

    id: str
    partition: int
    offset: int
    time: int
    arrival: int
    density: float
    surprise: float
    first: str | None
    is_judged: bool
    sketch: bytes | None = None
    form: tuple[int, ...] | None = None
    text: str | None = None
    metadata: Mapping[str, Any] | None = None
    vector: Vector | None = None


class Found(NamedTuple):
    """A stored event, without its vector, and its cosine with a query."""

    event: StoredEvent
    similarity: float


class StoredUpTo(NamedTuple):
    """How far a partition is in a VectorStore: the next offset, and the arrival number of the event after it."""

    offset: int
    arrival: int


class VectorStore(Protocol):
    """A database of one space's vectors, for threads. Each call raises Unreachable when there is no good answer in
    time; each may be repeated. What was written may be found a few seconds later, by whoever searches."""

    def search(self, queries: Matrix, k: int, before: int | None = None) -> Sequence[Sequence[Found]]:
        """The `k` most similar of each unit vector, best first; with `before`, of a lower arrival number only."""
        ...

    def get(self, ids: Sequence[str]) -> Sequence[StoredEvent]:
        """Those of these ids that are known, with their vectors, in any order."""
        ...

    def latest(self, since: int) -> Sequence[StoredEvent]:
        """Events from this arrival number on, with their vectors, in order: all that was ever written."""
        ...

    def upsert(self, events: Sequence[StoredEvent]) -> None:
        """Write events, with their vectors, in the place of those of the same ids."""
        ...

    def delete(self, ids: Sequence[str]) -> None: ...

    def drop(self, *, before_time: int | None = None, before_arrival: int | None = None) -> None:
        """Delete all of an earlier time than this, or of a lower arrival number."""
        ...

    def count(self, before_arrival: int | None = None) -> int:
        """How many events there are; or how many of a lower arrival number."""
        ...

    def positions(self) -> Mapping[int, StoredUpTo]:
        """What `save_positions` kept, by partition: all records before these offsets have been written."""
        ...

    def save_positions(self, positions: Mapping[int, StoredUpTo]) -> None: ...
