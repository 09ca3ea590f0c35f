"""What has streamed past: unit vectors by id, in order of arrival, and exact nearest neighbours among them.

It knows nothing of events, verdicts or threads.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import numpy as np

from streamer.core.vectors import Matrix, Vector
from streamer.core.verdicts import Match
from streamer.indexer.index.blocks import Beside, VectorStorage, at_once
from streamer.indexer.index.nearest import nearest
from streamer.indexer.index.payloads import Notes
from streamer.indexer.index.read_view import ReadView
from streamer.indexer.index.ring import Ring
from streamer.indexer.index.rotation import TURNED, Rotation

_QUERIES: Final = 64  # rows per product: enough for BLAS to be bound by arithmetic rather than by memory
_INSERTED: Final = 256  # rows written in one go; not more than doubling makes room for
_SHOWN: Final = 64  # leading components that `coordinates` gives
_FEWEST_SLOTS: Final = 1024  # not less than _QUERIES: doubling must make room for a batch
# Rows that were never written take no memory, and arrays of at least so many bytes give all of it back when they are
# left for larger ones: above 32 MiB malloc always takes pages of their own, and SplitBlocks are two arrays.
_FEWEST_BYTES: Final = 1 << 27


class VectorIndex:
    """The newest `capacity` unit vectors by id, searched exactly.

    Once there are enough of them, they are kept in coordinates in which a search need not look at all components (see
    Basis), where such can be found; what `get` returns is exact to a bit or two of float32 then. A vector of a known id
    replaces the older one and counts as having arrived now. A payload (any object) and a time (any integer) are kept
    with each.

    Memory: 4 * dimensions bytes (8 more in such coordinates) for each of at most `capacity` + max(64, capacity / 64)
    rows, reached by doubling, plus about 60 bytes a row, its id (50 bytes and one for each character) and its payload
    (a sketch: 120 bytes). Arrays below 32 MiB that growing leaves behind stay with malloc: up to 45 bytes a row, and 60
    of sketches below half a million rows. Vectors take twice their memory while coordinates change, or while rows are
    held that stand in the way of new ones.

    One caller at a time, except that others may search and get while they hold `changing` (a lock), which is held here
    only while something changes, not while rows are compared. `beside`: where some of the products of a small batch
    are made, see VectorBlocks.
    """

    def __init__(
        self,
        dimensions: int,
        capacity: int,
        changing: AbstractContextManager[object] | None = None,
        beside: Beside | None = None,
    ) -> None:
        if dimensions < 1 or capacity < 1:
            raise ValueError(f"dimensions and capacity must be positive, got {dimensions} and {capacity}")
        self.dimensions = dimensions
        self.capacity = capacity
        self._changing = changing or nullcontext()
        self._beside = beside
        # The spare rows hold what a batch displaces until its products are done, and the holes that replaced and
        # deleted vectors leave behind: closing them costs one pass over the matrix, paid once per spare row used up.
        self._most_slots = capacity + max(_QUERIES, capacity // 64)
        self._most_at_once = min(_INSERTED, self._most_slots - capacity)
        slots = self._most_slots
        # Sizes are halves of the last one, so that the copy made while growing never exceeds the final size.
        while slots // 2 >= max(_FEWEST_SLOTS, _FEWEST_BYTES // (4 * dimensions)):
            slots = (slots + 1) // 2
        self._rotation = Rotation.initial(dimensions, capacity)
        self._ring = Ring(capacity, slots)
        self._storage = self._rotation.storage(slots)
        self._view: ReadView | None = None

    def __repr__(self) -> str:
        size = f"{len(self)} of at most {self.capacity} vectors of {self.dimensions} dimensions, {self.nbytes} bytes"
        return f"<VectorIndex: {size}>"

    def __len__(self) -> int:
        return len(self._ring)

    def __contains__(self, id: str) -> bool:
        return self._ring.slot(id) is not None

    @property
    def nbytes(self) -> int:
        """Bytes reserved for vectors."""
        return self._storage.nbytes

    def ages(self, now: float) -> tuple[float | None, float | None]:
        """Of the event that came first and of the one that came last, in seconds; None while there is none. `now`:
        seconds since the epoch. Approximate while the index changes in another thread."""
        if not len(self):
            return None, None
        places = self._ring.tail, self._ring.head - 1
        oldest, newest = (int(self._ring.times[place % self._ring.slots]) for place in places)
        return max(0.0, now - oldest / 1000), max(0.0, now - newest / 1000)

    def get(self, id: str) -> Vector | None:
        """A copy of the vector of this id, None when it is not (or no longer) known."""
        slot = self._ring.slot(id)
        return None if slot is None else self._rotation.back(self._storage.get(np.array([slot])))[0]

    def payload(self, id: str) -> Any:
        """What was remembered along with the vector of this id; None when it is not (or no longer) known."""
        return self.payloads([id]).get(id)

    def payloads(self, ids: Collection[str]) -> dict[str, Any]:
        """The same of those of these ids that are remembered."""
        return {id: self._ring.payloads[slot] for id in ids if (slot := self._ring.slot(id)) is not None}

    def annotate(self, ids: Sequence[str], notes: Sequence[tuple[int, float, float]]) -> None:
        """Replace the notes of vectors, where they still are the ones of these arrivals."""
        held = [(slot, note) for id, note in zip(ids, notes, strict=True) if (slot := self._ring.slot(id)) is not None]
        self._ring.payloads.annotate([slot for slot, _ in held], [note for _, note in held])

    def ids(self, most: int) -> list[str]:
        """At most so many of those that are remembered, evenly spread over the order of arrival, oldest first."""
        slots = self._ring.alive() % self._ring.slots
        return [self._ring.names[slot] for slot in slots[:: max(1, -(-len(slots) // most))].tolist()]

    def coordinates(self, ids: Sequence[str]) -> tuple[list[str], Matrix]:
        """Those of these ids that are remembered, and their vectors (n, at most dimensions) as the index keeps them:
        once it has principal axes, only the leading components, which tell the vectors apart best."""
        known = {id: slot for id in ids if (slot := self._ring.slot(id)) is not None}
        rows = self._storage.get(np.array(list(known.values()), np.int64))
        return list(known), rows if self._rotation.basis is None else rows[:, :_SHOWN].copy()

    def insert(
        self,
        ids: Sequence[str],
        vectors: Matrix,
        payloads: Sequence[Any] = (),
        times: Sequence[int] = (),
        notes: Notes = (),
    ) -> None:
        """Remember a batch, in order, without looking for neighbours. Payloads default to None, the rest to 0."""
        self._check(vectors, len(ids))
        for part in self._parts(len(ids), TURNED):
            turned = self._rotation.into(vectors[part])
            self.take_back(ids[part], turned, payloads[part], times[part], notes[part])

    def resume(self, rotation: Rotation) -> None:
        """Go on in those of another index. For a new one, which then is to `take_back` what was held."""
        self._rotation = rotation
        self._storage = rotation.storage(self._ring.slots)

    def take_back(
        self, ids: Sequence[str], rows: Matrix, payloads: Sequence[Any], times: Sequence[int], notes: Notes
    ) -> None:
        """Remember vectors that are in these coordinates already, as `taken` from what another index held."""
        self._check(rows, len(ids))
        for start in range(0, len(ids), self._most_at_once):
            part = slice(start, start + self._most_at_once)
            with self._changing:
                self._append(ids[part], rows[part], payloads[part], times[part], notes[part])

    def read_view(self) -> ReadView:
        """All that is remembered now. One at a time: an earlier one must have been taken or released."""
        ring = self._ring
        if len(ring) < ring.head - ring.tail:
            with self._changing:
                self._move(self._storage)  # without holes, rows are seldom in the way of new ones
        self._view = ReadView(self._storage, self._rotation, ring.tail, *ring.contents())
        return self._view

    def delete(self, id: str) -> bool:
        """Forget an id; False when it was not known."""
        with self._changing:
            return self._ring.delete(id)

    def expire(self, before: int) -> int:
        """Forget everything of a time before this one; how many there were."""
        return sum(map(self.delete, self._ring.before(before)))

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

        Earlier members of the batch are among these, an older vector of the same id is not. The answer is the same
        however a stream is cut into batches, up to ties within RESOLUTION (top_k.py). `described`: how many of the
        nearest carry their payloads, which takes time; None for all.
        """
        self._check(vectors, len(ids))
        found: list[list[Match]] = []
        for part in self._parts(len(ids), _QUERIES):
            turned = self._rotation.into(vectors[part])
            with self._changing:
                oldest, first = self._append(ids[part], turned, payloads[part], times[part], notes[part])
            sees, none = np.arange(first, first + len(turned)), np.empty(0, np.int64)
            found += nearest(self._storage, self._ring, turned, sees, oldest, k, none, self._beside, described)
        return found

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
        self._check(queries, len(queries))
        ring = self._ring
        hidden = np.array([at for id in exclude if (at := ring.position(id)) is not None], np.int64)
        if accept is not None:
            alive = ring.alive()
            slots = (alive % ring.slots).tolist()
            refused = [not accept(ring.payloads.without_sketch(slot)) for slot in slots]
            hidden = np.concatenate((hidden, alive[np.array(refused, np.bool_)]))
        found: list[list[Match]] = []
        for start in range(0, len(queries), _QUERIES):
            part = self._rotation.into(queries[start : start + _QUERIES])
            found += nearest(self._storage, ring, part, np.full(len(part), ring.head), ring.tail, k, hidden)
        return found

    def search_before(self, id: str, k: int) -> list[Match]:
        """The `k` nearest of a remembered vector among those that arrived before it and are still remembered."""
        ring, position = self._ring, self._ring.position(id)
        if position is None:
            return []
        # Whoever died after this vector arrived would still be seen from its position, but is forgotten by now.
        dead = ring.dead_before(position)
        query = self._storage.get(np.array([position % ring.slots]))
        return nearest(self._storage, ring, query, np.array([position]), ring.tail, k, dead)[0]

    def _check(self, vectors: Matrix, count: int) -> None:
        if vectors.shape != (count, self.dimensions):
            raise ValueError(f"expected {count} vectors of {self.dimensions} dimensions, got shape {vectors.shape}")

    def _append(
        self, ids: Sequence[str], vectors: Matrix, payloads: Sequence[Any], times: Sequence[int], notes: Notes
    ) -> tuple[int, int]:
        """Write at most as many rows as are spare; the positions of the oldest one they can see and of the first one.

        Rows that die here keep their place until the next call.
        """
        self._make_room(len(ids))
        ring = self._ring
        oldest, first = ring.append(ids, payloads, times, notes)
        self._storage.put(np.arange(first, ring.head) % ring.slots, vectors)
        return oldest, first

    def _parts(self, count: int, most: int) -> Iterator[slice]:
        """Of a batch, each of at most so many; in between, coordinates change when it is time for it."""
        start = 0
        while start < count:
            due = self._rotation.due_after(len(self))
            if due == 0:
                self._improve()
            # At the same vector however the stream is cut.
            stop = min(start + min(most, due or most), count)
            yield slice(start, stop)
            start = stop

    def _improve(self) -> None:
        """Go over to coordinates in which searches are faster, if there are any. Searches go on meanwhile."""
        beside = self._beside or at_once
        rotation = self._rotation.improved(self._storage, self._ring.alive() % self._ring.slots, beside)
        if rotation.basis is None:
            self._rotation = rotation
            return
        rows = rotation.moved(self._storage, self._ring.span(), beside)
        with self._changing:
            self._rotation, self._storage = rotation, rows
            self._view = None  # what is left of it has the old rows to itself

    def _make_room(self, count: int) -> None:
        ring = self._ring
        ring.drop_dead()
        view = self._view if self._view is not None and not self._view.taken else None
        oldest = ring.tail if view is None else min(ring.tail, view.untaken)
        if ring.head - oldest + count <= ring.slots:
            return
        # Closing holes must pay: at least a quarter of the rows, or the spare ones once there is no growing any more.
        if ring.slots < self._most_slots and 4 * (len(ring) + count) > 3 * ring.slots:
            self._move(self._rotation.storage(min(2 * ring.slots, self._most_slots)))
        else:
            self._move(self._storage if view is None else self._rotation.storage(ring.slots))
        self._view = None  # what is left of it has the old rows to itself

    def _move(self, target: VectorStorage) -> None:
        """Close the holes: into more rows, or towards the tail of the same ones."""
        source, destination = self._ring.close_holes(len(target))
        self._storage.move(source, target, destination)
        self._storage = target
