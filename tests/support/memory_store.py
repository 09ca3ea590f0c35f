"""A VectorStore that is as slow to show what was written as a cluster may be, and as exact as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from streamer.core.vectors import Matrix
from streamer.errors import Unreachable
from streamer.stores import Found, StoredEvent, StoredUpTo


class MemoryStore:
    """`lag`: so many writes are not shown to searches yet. While `is_away`, nothing is answered."""

    def __init__(self, lag: int = 0) -> None:
        self.events: dict[str, StoredEvent] = {}
        self.saved: dict[int, StoredUpTo] = {}
        self.is_away = False
        self.calls: list[str] = []
        self._lag = lag
        self._past: list[dict[str, StoredEvent]] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.is_away:
            raise Unreachable("the store is away")

    def _changing(self) -> None:
        if self._lag:
            self._past = [*self._past, dict(self.events)][-self._lag :]

    def search(self, queries: Matrix, k: int, before: int | None = None) -> Sequence[Sequence[Found]]:
        self._called("search")
        assert queries.ndim == 2
        assert 0 < k <= 16_384
        shown = self._past[0] if self._past else self.events
        seen = [event for event in shown.values() if before is None or event.arrival < before]
        if not seen:
            return [[] for _ in queries]
        rows = np.array([event.vector for event in seen], np.float64)
        cosines = (queries.astype(np.float64) @ rows.T).round(6)
        arrivals = np.array([event.arrival for event in seen])
        best = [np.lexsort((arrivals, -some))[:k] for some in cosines]
        return [
            [Found(replace(seen[place], vector=None), float(some[place])) for place in places]
            for places, some in zip(best, cosines, strict=True)
        ]

    def get(self, ids: Sequence[str]) -> Sequence[StoredEvent]:
        self._called("get")
        assert ids
        return [self.events[id] for id in ids if id in self.events]

    def latest(self, since: int) -> Sequence[StoredEvent]:
        self._called("latest")
        found = [event for event in self.events.values() if event.arrival >= since]
        return sorted(found, key=lambda event: event.arrival)

    def upsert(self, events: Sequence[StoredEvent]) -> None:
        self._called("upsert")
        self._changing()
        for event in events:
            assert event.vector is not None
            assert event.vector.dtype == np.float32
            self.events.pop(event.id, None)
            self.events[event.id] = event

    def delete(self, ids: Sequence[str]) -> None:
        self._called("delete")
        self._changing()
        for id in ids:
            self.events.pop(id, None)

    def drop(self, *, before_time: int | None = None, before_arrival: int | None = None) -> None:
        self._called("drop")
        self.events = {
            id: event
            for id, event in self.events.items()
            if not (before_time is not None and event.time < before_time)
            and not (before_arrival is not None and event.arrival < before_arrival)
        }
        self._past = []

    def count(self, before_arrival: int | None = None) -> int:
        self._called("count")
        return sum(before_arrival is None or event.arrival < before_arrival for event in self.events.values())

    def positions(self) -> Mapping[int, StoredUpTo]:
        self._called("positions")
        return dict(self.saved)

    def save_positions(self, positions: Mapping[int, StoredUpTo]) -> None:
        self._called("save_positions")
        self.saved |= positions
