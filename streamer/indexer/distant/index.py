"""An index whose vectors lie in a database, for memories that outgrow one machine's.

The latest events are held here as well (see Overlay): what has just been written need not be found there yet, so that
verdicts do not depend on how soon it is. It writes behind: `flush` before anything is said about what was judged.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final

import numpy as np

from streamer.core.sketch import TextForm
from streamer.core.vectors import Matrix
from streamer.core.verdicts import Match
from streamer.indexer.distant.groups import DistantGroups
from streamer.indexer.distant.overlay import Overlay, as_given, form_of, matrix
from streamer.indexer.distant.reader import Ask, DistantReader, once
from streamer.indexer.index.payloads import NOTE, Notes
from streamer.indexer.index.read_view import ReadView
from streamer.indexer.index.rotation import Rotation
from streamer.indexer.index.vector_index import VectorIndex
from streamer.stores import StoredEvent, StoredUpTo, VectorStore

_WRITTEN: Final = 512  # events in one call
_STEPS: Final = 64  # the part of the capacity by which it may be exceeded
_PROBES: Final = 32


class DistantIndex(DistantReader):
    """An EventIndex in a VectorStore, with its `groups`. For one thread; `reader` is for others.

    `ask`: calls the store, waiting while it is away. `arrived`: so many events have arrived, by the numbers seen.
    """

    def __init__(
        self,
        dimensions: int,
        capacity: int,
        store: VectorStore,
        ask: Ask,
        changing: AbstractContextManager[object],
        overlay: Overlay | None = None,
    ) -> None:
        overlay = overlay or Overlay(dimensions)
        super().__init__(overlay, store, ask, changing)
        self.dimensions, self.capacity = dimensions, capacity
        self.reader = DistantReader(overlay, store, once, changing)
        self.arrived = 0
        self.groups = DistantGroups(overlay, self._find)
        self._deleting: dict[str, None] = {}
        self._counted = self._added = 0

    def __len__(self) -> int:
        """As of the last look, see `recount`, and what was added since."""
        return self._counted

    @property
    def nbytes(self) -> int:
        return self._overlay.index.nbytes

    def ages(self, now: float) -> tuple[float | None, float | None]:
        return None, self._overlay.index.ages(now)[1]

    # What is remembered.

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
        """See EventIndex."""
        self._make_room(len(ids))
        far = self.far(vectors, k + 1)
        met = self.groups.met = {found.event.id: found.event for some in far for found in some}
        self.arrived = max(self.arrived, 1 + max((event.arrival for event in met.values()), default=-1))
        rules = self._overlay.rules_for(ids)
        # Until each is judged, its id is in the group that it was in; those before it in this batch may ask.
        groups = self._overlay.groups_of(ids, met)
        with self._changing:
            plain = self._overlay.plain(payloads)
            near = self._overlay.index.observe(ids, vectors, k, plain, times, notes, described)
            self._overlay.note(ids, payloads, times, notes)
            for id in ids:
                event = self._overlay.events[id]
                event.first, event.is_judged = groups.get(id, (None, True))
        self._written(ids)
        latest = notes[0][0] - 1 if len(notes) else None
        return self.join(vectors, k, near, far, rules, described=described, latest=latest)

    def insert(
        self,
        ids: Sequence[str],
        vectors: Matrix,
        payloads: Sequence[Any] = (),
        times: Sequence[int] = (),
        notes: Notes = (),
    ) -> None:
        """What the store has of the same record, or of a later one of its partition, stays as it is."""
        self._make_room(len(ids))
        known = {event.id: event for event in self.find(ids)}
        new = [
            place
            for place, (id, payload) in enumerate(zip(ids, payloads, strict=True))
            if (event := known.get(id)) is None or event.partition != payload.partition or event.offset < payload.offset
        ]
        ids, payloads = [ids[place] for place in new], [payloads[place] for place in new]
        told = np.array(notes, NOTE).tolist()  # as tuples
        times, notes = [times[place] for place in new], [told[place] for place in new]
        with self._changing:
            self._overlay.index.insert(ids, vectors[new], self._overlay.plain(payloads), times, notes)
            self._overlay.note(ids, payloads, times, notes)
        self._written(ids)

    def annotate(self, ids: Sequence[str], notes: Sequence[tuple[int, float, float]]) -> None:
        """See EventIndex. For those only that are held here."""
        with self._changing:
            self._overlay.annotate(ids, notes)

    def delete(self, id: str) -> bool:
        """See EventIndex. True where only the store could tell."""
        with self._changing:
            known = self._overlay.delete(id)
        self._deleting[id] = None
        return known is not False

    def expire(self, before: int) -> int:
        """How many of those that are held here."""
        self.flush()
        with self._changing:
            late = self._overlay.expire(before)
        self._ask(lambda: self._store.drop(before_time=before))
        return len(late)

    def search_before(self, id: str, k: int) -> list[Match]:
        """See EventIndex."""
        own = self._find(id)
        if own is None or own.vector is None:
            return []
        query = own.vector[None]
        near = self._overlay.index.search_before(id, k) if id in self._overlay.events else []
        far = self.far(query, k + 1, own.arrival)
        self.groups.met |= {found.event.id: found.event for found in far[0]}
        return self.join(query, k, [near], far, [self._overlay.is_stale], before=own.arrival)[0]

    def _written(self, ids: Sequence[str]) -> None:
        self._added += len(ids)
        for id in ids:
            self._deleting.pop(id, None)

    def _make_room(self, count: int) -> None:
        if count > self._overlay.window:
            raise AssertionError(f"{count} events at a time do not fit among the latest. This is a bug.")
        leaving = self._overlay.oldest(count)
        if leaving:
            self.flush()
            with self._changing:
                self._overlay.drop(leaving)

    # The store.

    def take_up(self, partitions: Collection[int]) -> dict[int, StoredUpTo]:
        """Hold the latest events of these partitions, and of no others. How far the store is with each."""
        self.flush()
        positions = self._ask(self._store.positions)
        self.arrived = max(self.arrived, *(each.arrival for each in positions.values()), 0)
        with self._changing:
            self._overlay.drop(self._overlay.of_other_partitions(partitions))
        latest = [event for event in self.latest() if event.partition in partitions]
        held = [event for event in latest if event.id not in self._overlay.events]
        self._make_room(len(held))
        ids, payloads, times, notes = as_given(held)
        with self._changing:
            rows = matrix(held, self.dimensions)
            self._overlay.index.insert(ids, rows, self._overlay.plain(payloads), times, notes)
            self._overlay.note(ids, payloads, times, notes)
            for event in held:
                self._overlay.events[event.id].first = event.first
                self._overlay.events[event.id].is_judged = event.is_judged
                del self._overlay.unwritten[event.id]
        self.recount()
        return {partition: each for partition, each in positions.items() if partition in partitions}

    def latest(self) -> Sequence[StoredEvent]:
        """As many as may be held here, of whatever partition, in order of arrival."""
        since = max(0, self.arrived - self._overlay.window // 2)
        return self._ask(lambda: self._store.latest(since))[-self._overlay.window // 2 :]

    def looked_back_on(self) -> list[tuple[str, TextForm | None]]:
        """The latest events by id, and the forms of their texts, for a judge that knows nothing of them."""
        return [(event.id, form_of(event)) for event in self.latest()]

    def flush(self) -> None:
        """Write what has changed. Afterwards a crash does not lose it."""
        if self._deleting:
            ids = list(self._deleting)
            for start in range(0, len(ids), _WRITTEN):
                part = ids[start : start + _WRITTEN]
                self._ask(partial(self._store.delete, part))
            self._deleting.clear()
        unwritten = list(self._overlay.unwritten)
        for start in range(0, len(unwritten), _WRITTEN):
            events = self._overlay.stored(unwritten[start : start + _WRITTEN])
            self._ask(partial(self._store.upsert, events))
        self._overlay.unwritten.clear()
        if self._counted + self._added > self.capacity + self.capacity // _STEPS:
            self.recount()
            self._evict()

    def save_positions(self, positions: Mapping[int, int], arrived: int) -> None:
        """So far all has been written; for after a `flush`."""
        self.arrived = max(self.arrived, arrived)
        reached = {partition: StoredUpTo(offset, self.arrived) for partition, offset in positions.items()}
        self._ask(lambda: self._store.save_positions(reached))

    def recount(self) -> None:
        """Ask the store how many there are."""
        self._counted, self._added = self._ask(self._store.count), 0

    def _evict(self) -> None:
        """The oldest leave, until there are at most `capacity`, and not much less."""
        surplus = self._counted - self.capacity
        if surplus <= 0:
            return
        low, high = 0, self.arrived + 1
        tolerated = self.capacity // _STEPS
        for _ in range(_PROBES):
            middle = (low + high) // 2
            older = self._ask(partial(self._store.count, middle))
            if older < surplus:
                low = middle
            else:
                high = middle
                if older <= surplus + tolerated:
                    break
            if high - low <= 1:
                break
        with self._changing:
            self._overlay.drop([id for id, event in self._overlay.events.items() if event.note[0] < high])
        self._ask(lambda: self._store.drop(before_arrival=high))
        self.recount()

    # Snapshots hold none of it.

    def read_view(self) -> ReadView:
        """Of nothing: the vectors need no snapshot."""
        return VectorIndex(self.dimensions, 1).read_view()

    def resume(self, rotation: Rotation) -> None:
        """There is nothing to resume."""

    def take_back(self, ids: Sequence[str], *_: Any) -> None:
        """Never called."""
        raise AssertionError(f"a snapshot of an index that lies elsewhere holds {len(ids)} vectors. This is a bug.")
