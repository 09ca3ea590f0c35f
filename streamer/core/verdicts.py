"""What is said about each new event: whether something like it has streamed past before, and what.

Pure state: vectors in, verdicts out, in order of arrival. The same stream gives the same verdicts however it is cut
into batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import orjson

from streamer.core.events import Headers, Message
from streamer.core.similarity import Match, VectorIndex
from streamer.core.vector_events import JSON, TextSource, VectorEvent
from streamer.core.vectors import Matrix

VerdictKind: TypeAlias = Literal["near_duplicate", "anomaly", "ordinary", "warming_up"]

_MOST_HOPS: Final = 16  # a search each; longer chains of restored near-duplicates are cut here


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One event's verdict.

    `similarity`: cosine with the nearest event before it, None when there was none. `duplicate_of`: the first event
    of the group that this near-duplicate joins. `score` and `p_value`: how unusual it is, None when not judged.
    """

    id: str
    verdict: VerdictKind
    similarity: float | None
    duplicate_of: str | None
    nearest: Sequence[Match]
    space: str
    source: TextSource | None
    score: float | None = None
    p_value: float | None = None


@dataclass(frozen=True, slots=True)
class VerdictPolicy:
    """`near_duplicate_similarity`: cosine from which two events are near-duplicates. `neighbors`: how many of the
    nearest events a verdict looks at and lists."""

    near_duplicate_similarity: float = 0.85
    neighbors: int = 5


class Judge:
    """Remembers events and gives each its verdict against those that arrived before it."""

    def __init__(self, index: VectorIndex, policy: VerdictPolicy) -> None:
        self.index = index
        self._policy = policy
        self._firsts: dict[str, str] = {}  # near-duplicates only: id -> first of its group
        self._unjudged: set[str] = set()  # restored without a verdict, and not needed since

    def judge(self, events: Sequence[VectorEvent]) -> list[Verdict]:
        """Remember events, in order of arrival, and judge each.

        An event of a known id replaces the older one and is not compared with it.
        """
        self._sweep()
        ids = [event.id for event in events]
        found = self.index.observe(ids, self._matrix(events), self._policy.neighbors)
        return [self._verdict(event, nearest) for event, nearest in zip(events, found, strict=True)]

    def restore(self, events: Sequence[VectorEvent]) -> None:
        """Remember events whose verdicts were given by an earlier run."""
        self._sweep()
        ids = [event.id for event in events]
        self.index.insert(ids, self._matrix(events))
        self._unjudged.update(ids)
        for id in ids:
            self._firsts.pop(id, None)

    def forget(self, id: str) -> bool:
        """Forget an event; False when it was not known. Its near-duplicates go on naming it."""
        self._unjudged.discard(id)
        self._firsts.pop(id, None)
        return self.index.delete(id)

    def _matrix(self, events: Sequence[VectorEvent]) -> Matrix:
        rows = [event.vector for event in events]
        return np.array(rows, np.float32).reshape(len(rows), self.index.dimensions)

    def _verdict(self, event: VectorEvent, nearest: Sequence[Match]) -> Verdict:
        first = self._join(event.id, nearest)
        return Verdict(
            id=event.id,
            verdict="ordinary" if first is None else "near_duplicate",
            similarity=nearest[0].similarity if nearest else None,
            duplicate_of=first,
            nearest=nearest,
            space=event.space,
            source=event.source,
        )

    def _join(self, id: str, nearest: Sequence[Match], hops: int = 0) -> str | None:
        """Put an id into the group of its nearest near-duplicate; the group's first, None if it starts its own.

        Neighbours that themselves are near-duplicates of this id are passed over: the first of a group that is sent
        again stays the first, so that a replay repeats the verdicts it repeats the events of.
        """
        self._unjudged.discard(id)
        self._firsts.pop(id, None)
        for match in nearest:
            if match.similarity < self._policy.near_duplicate_similarity:
                break
            first = self._first_of(match.id, hops)
            if first != id:
                self._firsts[id] = first
                return first
        return None

    def _first_of(self, id: str, hops: int) -> str:
        if id in self._unjudged and hops < _MOST_HOPS:
            nearest = self.index.search_before(id, self._policy.neighbors)
            return self._join(id, nearest, hops + 1) or id
        return self._firsts.get(id, id)

    def _sweep(self) -> None:
        """Drop what is known of ids that the index has forgotten, now and then. Nobody can ask for them any more."""
        if len(self._firsts) + len(self._unjudged) > 2 * len(self.index) + 1024:
            self._firsts = {id: first for id, first in self._firsts.items() if id in self.index}
            self._unjudged = {id for id in self._unjudged if id in self.index}


def encode_verdict(verdict: Verdict, topic: str) -> Message:
    """The verdict event: key = event id, value = JSON."""
    source = verdict.source
    document: dict[str, Any] = {
        "id": verdict.id,
        "verdict": verdict.verdict,
        "similarity": verdict.similarity,
        "duplicate_of": verdict.duplicate_of,
        "score": verdict.score,
        "p_value": verdict.p_value,
        "nearest": [{"id": match.id, "similarity": match.similarity} for match in verdict.nearest],
        "space": verdict.space,
        "source": None
        if source is None
        else {
            "topic": source.tp.topic,
            "partition": source.tp.partition,
            "offset": source.offset,
            "timestamp": source.timestamp,
        },
    }
    headers: Headers = (("content-type", JSON.encode()), ("streamer-space", verdict.space.encode()))
    if source is not None:
        headers += (("streamer-source", str(source).encode()),)
    return Message(topic, verdict.id.encode(), orjson.dumps(document), headers)
