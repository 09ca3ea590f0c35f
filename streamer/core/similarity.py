"""What has streamed past: unit vectors by id, in order of arrival, and exact nearest neighbours among them.

The rows lie in a ring in the order in which they arrived. Three things follow from that order for free: the oldest
leave at the tail, the earliest of equally similar rows is met first, and the members of a batch are ordinary rows
that happen to lie behind their elders. It knows nothing of events, verdicts or threads.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.coordinates import Coordinates
from streamer.core.held import Held
from streamer.core.notes import Notes
from streamer.core.ranking import Best
from streamer.core.rows import Beside, Storage
from streamer.core.slots import SlotTable
from streamer.core.vectors import Matrix, Vector

_ALIVE: Final = np.iinfo(np.int64).max
_QUERIES: Final = 64  # rows per product: enough for BLAS to be bound by arithmetic rather than by memory
_SCORES: Final = 1 << 21  # scores at a time (8 MiB): with more calls, there is more waiting for the interpreter
_FEWEST_SLOTS: Final = 1024  # not less than _QUERIES: doubling must make room for a batch
# Rows that were never written take no memory, and arrays of at least so many bytes give all of it back when they are
# left for larger ones: above 32 MiB malloc always takes pages of their own, and SplitRows are two arrays.
_FEWEST_BYTES: Final = 1 << 27


class Match(NamedTuple):
    """A remembered vector and its cosine with the query: between -1 and 1, to six decimals.

    `note`: what was remembered along with the vector.
    """

    id: str
    similarity: float
    note: Any = None


class VectorIndex:
    """The newest `capacity` unit vectors by id, searched exactly.

    Once there are enough of them, they are kept in coordinates in which a search need not look at all components (see
    Basis), where such can be found; what `get` returns is exact to a bit or two of float32 then.

    A vector of a known id replaces the older one and counts as having arrived now. A note (any object) and a time (any
    integer) are kept with each vector for as long as it is kept. Memory: 4 * dimensions bytes (8 more in such
    coordinates) for each of at most `capacity` + max(64, capacity / 64) rows, reached by doubling, plus about 45 bytes
    a row, its id (50 bytes and one for each character) and its note (a sketch: 120 bytes); twice that for the vectors
    while coordinates change, or while rows are held that stand in the way of new ones.

    One caller at a time, except that others may search and get while they hold `changing` (a lock), which is held here
    only while something changes, not while rows are compared. `beside`: where some of the products of a small batch
    are made, see Rows.
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
        self._slots = self._most_slots
        # Sizes are halves of the last one, so that the copy made while growing never exceeds the final size.
        while self._slots // 2 >= max(_FEWEST_SLOTS, _FEWEST_BYTES // (4 * dimensions)):
            self._slots = (self._slots + 1) // 2
        self._coordinates = Coordinates.initial(dimensions, capacity)
        self._rows = self._coordinates.storage(self._slots)
        # A position numbers a row in order of arrival; it lies in slot `position % slots`.
        self._tail = 0
        self._head = 0
        self._table = SlotTable(capacity)
        self._names: list[str] = [""] * self._slots
        self._notes = Notes(self._slots)
        self._times: NDArray[np.int64] = np.zeros(self._slots, np.int64)
        # The first position that no longer sees the row. Rows die in the middle of a batch; members before that
        # moment must still find them, members after it must not.
        self._unseen_from: NDArray[np.int64] = np.full(self._slots, _ALIVE, np.int64)
        self._held: Held | None = None

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, id: str) -> bool:
        return self._table.find(id, self._names) is not None

    @property
    def nbytes(self) -> int:
        """Bytes reserved for vectors."""
        return self._rows.nbytes

    def get(self, id: str) -> Vector | None:
        """A copy of the vector of this id, None when it is not (or no longer) known."""
        slot = self._table.find(id, self._names)
        return None if slot is None else self._coordinates.back(self._rows.get(np.array([slot])))[0]

    def note(self, id: str) -> Any:
        """What was remembered along with the vector of this id; None when it is not (or no longer) known."""
        slot = self._table.find(id, self._names)
        return None if slot is None else self._notes[slot]

    def insert(self, ids: Sequence[str], vectors: Matrix, notes: Sequence[Any] = (), times: Sequence[int] = ()) -> None:
        """Remember a batch, in order, without looking for neighbours. Notes default to None, times to 0."""
        self._check(vectors, len(ids))
        for part in self._parts(len(ids)):
            turned = self._coordinates.into(vectors[part])
            with self._changing:
                self._append(ids[part], turned, notes[part], times[part])

    def resume(self, coordinates: Coordinates) -> None:
        """Go on in those of another index. For a new one, which then is to `take_back` what was held."""
        self._coordinates = coordinates
        self._rows = coordinates.storage(self._slots)

    def take_back(self, ids: Sequence[str], rows: Matrix, notes: Sequence[Any], times: Sequence[int]) -> None:
        """Remember what was `taken` from what another index held, to the last bit."""
        self._check(rows, len(ids))
        for start in range(0, len(ids), _QUERIES):
            part = slice(start, start + _QUERIES)
            with self._changing:
                self._append(ids[part], rows[part], notes[part], times[part])

    def hold(self) -> Held:
        """All that is remembered now. One at a time: an earlier one must have been taken or released."""
        if len(self) < self._head - self._tail:
            with self._changing:
                self._move(self._rows)  # without holes, rows are seldom in the way of new ones
        start, count = self._tail % self._slots, len(self)
        names = (self._names[start:] + self._names[:start])[:count]
        notes = Notes(count)
        notes.take(self._notes, np.arange(start, start + count) % self._slots, np.arange(count))
        times = np.roll(self._times, -start)[:count]
        self._held = Held(self._rows, self._coordinates, self._tail, names, notes, times)
        return self._held

    def delete(self, id: str) -> bool:
        """Forget an id; False when it was not known."""
        with self._changing:
            slot = self._table.remove(id, self._names)
            if slot is not None:
                self._unseen_from[slot] = self._head
                self._notes[slot] = None
        return slot is not None

    def expire(self, before: int) -> int:
        """Forget everything of a time before this one; how many there were."""
        slots = self._alive() % self._slots
        late = slots[self._times[slots] < before]
        for slot in late.tolist():
            self.delete(self._names[slot])
        return len(late)

    def observe(
        self, ids: Sequence[str], vectors: Matrix, k: int, notes: Sequence[Any] = (), times: Sequence[int] = ()
    ) -> list[list[Match]]:
        """Remember a batch and tell, for each member, its `k` nearest among all that were remembered before it.

        Earlier members of the batch are among these, an older vector of the same id is not. The answer is the same
        however a stream is cut into batches, up to ties within RESOLUTION (ranking.py).
        """
        self._check(vectors, len(ids))
        found: list[list[Match]] = []
        for part in self._parts(len(ids)):
            turned = self._coordinates.into(vectors[part])
            with self._changing:
                oldest, first = self._append(ids[part], turned, notes[part], times[part])
            found += self._nearest(turned, np.arange(first, self._head), oldest, k, np.empty(0, np.int64), self._beside)
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

        `exclude`: ids that no query shall find. `accept`: what the note of a vector (less its sketch) must be like for
        it to be found.
        """
        self._check(queries, len(queries))
        hidden = np.array([at for id in exclude if (at := self._position(id)) is not None], np.int64)
        if accept is not None:
            alive = self._alive()
            slots = (alive % self._slots).tolist()
            refused = [not accept(self._notes.without_sketch(slot)) for slot in slots]
            hidden = np.concatenate((hidden, alive[np.array(refused, np.bool_)]))
        found: list[list[Match]] = []
        for start in range(0, len(queries), _QUERIES):
            part = self._coordinates.into(queries[start : start + _QUERIES])
            found += self._nearest(part, np.full(len(part), self._head), self._tail, k, hidden)
        return found

    def search_before(self, id: str, k: int) -> list[Match]:
        """The `k` nearest of a remembered vector among those that arrived before it and are still remembered."""
        position = self._position(id)
        if position is None:
            return []
        # Whoever died after this vector arrived would still be seen from its position, but is forgotten by now.
        span = np.arange(self._tail, position)
        dead = span[self._unseen_from[span % self._slots] != _ALIVE]
        query = self._rows.get(np.array([position % self._slots]))
        return self._nearest(query, np.array([position]), self._tail, k, dead)[0]

    def _check(self, vectors: Matrix, count: int) -> None:
        if vectors.shape != (count, self.dimensions):
            raise ValueError(f"expected {count} vectors of {self.dimensions} dimensions, got shape {vectors.shape}")

    def _position(self, id: str) -> int | None:
        slot = self._table.find(id, self._names)
        return None if slot is None else self._tail + (slot - self._tail) % self._slots

    def _alive(self) -> NDArray[np.int64]:
        """Positions of all that are remembered, in order."""
        span = np.arange(self._tail, self._head)
        alive: NDArray[np.int64] = span[self._unseen_from[span % self._slots] == _ALIVE]
        return alive

    def _append(
        self, ids: Sequence[str], vectors: Matrix, notes: Sequence[Any], times: Sequence[int]
    ) -> tuple[int, int]:
        """Write at most _QUERIES rows; the positions of the oldest row they can see and of the first of them.

        Rows that die here keep their place until the next call.
        """
        self._make_room(len(ids))
        oldest, first = self._tail, self._head
        table, names, unseen_from, slots = self._table, self._names, self._unseen_from, self._slots
        for position, id in enumerate(ids, first):
            older = table.remove(id, names)
            if older is not None:
                unseen_from[older] = position  # not even by the vector that replaces it
            elif len(table) == self.capacity:
                while unseen_from[self._tail % slots] != _ALIVE:
                    self._tail += 1
                slot = self._tail % slots
                table.remove(names[slot], names)
                unseen_from[slot] = position + 1  # the vector that displaces it has seen it
            slot = position % slots
            names[slot] = id
            table.add(id, slot, names)
            self._notes[slot] = notes[position - first] if notes else None
            self._times[slot] = times[position - first] if times else 0
            unseen_from[slot] = _ALIVE
            self._head = position + 1
        self._rows.put(np.arange(first, self._head) % slots, vectors)
        return oldest, first

    def _parts(self, count: int) -> Iterator[slice]:
        """Of a batch, each of a size that one product likes; in between, coordinates change when it is time for it."""
        start = 0
        while start < count:
            due = self._coordinates.due_after(len(self))
            if due == 0:
                self._improve()
            # At the same vector however the stream is cut.
            stop = min(start + min(_QUERIES, due or _QUERIES), count)
            yield slice(start, stop)
            start = stop

    def _improve(self) -> None:
        """Go over to coordinates in which searches are faster, if there are any. Searches go on meanwhile."""
        coordinates = self._coordinates.improved(self._rows, self._alive() % self._slots)
        if coordinates.basis is None:
            self._coordinates = coordinates
            return
        rows = coordinates.moved(self._rows, np.arange(self._tail, self._head) % self._slots)
        with self._changing:
            self._coordinates, self._rows = coordinates, rows
            self._held = None  # what is left of it has the old rows to itself

    def _make_room(self, count: int) -> None:
        while self._tail < self._head and self._unseen_from[self._tail % self._slots] != _ALIVE:
            self._tail += 1
        held = self._held if self._held is not None and not self._held.taken else None
        oldest = self._tail if held is None else min(self._tail, held.untaken)
        if self._head - oldest + count <= self._slots:
            return
        # Closing holes must pay: at least a quarter of the rows, or the spare ones once there is no growing any more.
        if self._slots < self._most_slots and 4 * (len(self) + count) > 3 * self._slots:
            slots = min(2 * self._slots, self._most_slots)
            self._move(self._coordinates.storage(slots))
        else:
            self._move(self._rows if held is None else self._coordinates.storage(self._slots))
        self._held = None  # what is left of it has the old rows to itself

    def _move(self, target: Storage) -> None:
        """Close the holes: into more rows, or towards the tail of the same ones."""
        slots = len(target)
        source = self._alive() % self._slots
        destination = np.arange(self._tail, self._tail + len(source)) % slots
        names = [""] * slots
        notes = self._notes if slots == self._slots else Notes(slots)
        times = np.zeros(slots, np.int64)
        times[destination] = self._times[source]
        self._rows.move(source, target, destination)
        # In place, nothing moves past what is still to be moved, and each chunk is copied before it is written.
        for start in range(0, len(source), 1024):
            old, new = source[start : start + 1024], destination[start : start + 1024]
            notes.take(self._notes, old, new)
            for old_slot, new_slot in zip(old.tolist(), new.tolist(), strict=True):
                names[new_slot] = self._names[old_slot]
        moved = np.empty(self._slots, np.int64)
        moved[source] = destination
        self._table.renumber(moved)
        self._rows, self._names, self._slots = target, names, slots
        self._notes, self._times = notes, times
        self._head = self._tail + len(source)
        self._unseen_from = np.full(slots, _ALIVE, np.int64)

    def _pieces(self, start: int, stop: int, most: int) -> Iterator[tuple[int, int]]:
        """Positions `start` to `stop` in order, in pieces that neither exceed `most` nor run over the ring's seam."""
        step = most - most % self._rows.step or most
        while start < stop:
            slot = start % self._slots
            end = min(stop, start + step - slot % step, start + self._slots - slot)
            yield start, end
            start = end

    def _nearest(
        self,
        queries: Matrix,
        sees: NDArray[np.int64],
        oldest: int,
        k: int,
        hidden: NDArray[np.int64],
        beside: Beside | None = None,
    ) -> list[list[Match]]:
        """Query i sees the rows from `oldest` up to position `sees[i]`, less those dead by then and the `hidden`.

        Queries are in the coordinates of the rows.
        """
        best, rows = Best(len(queries), k), self._rows
        for start, end in self._pieces(oldest, int(sees[-1]), max(1, _SCORES // len(queries))):
            slot = start % self._slots
            scores, exact = rows.compare(queries, slot, slot + end - start, beside)
            dying = np.flatnonzero(self._unseen_from[slot : slot + end - start] != _ALIVE)
            if dying.size:
                gone = self._unseen_from[slot + dying] <= sees[:, None]
                scores[:, dying] = np.where(gone, -np.inf, scores[:, dying])
            if end > sees[0]:  # the batch itself: each member sees only those before it
                first = max(start, int(sees[0]))
                scores[:, first - start :][np.arange(first, end) >= sees[:, None]] = -np.inf
            scores[:, hidden[(hidden >= start) & (hidden < end)] - start] = -np.inf
            if exact is None:
                best.offer(scores, start)
            else:
                best.offer_bounds(scores, start, exact)
        return self._matches(queries, best.positions)

    def _matches(self, queries: Matrix, positions: NDArray[np.int64]) -> list[list[Match]]:
        """Ids and similarities of positions (n, k), -1 for none; best first, ties in order of arrival.

        Summed once more in float64: a product's last bits depend on how many queries shared it.
        """
        slots = positions % self._slots
        exact = np.empty(positions.shape)
        for i, query in enumerate(queries):  # one by one: many long vectors of many queries are a lot of memory
            exact[i] = self._rows.get(slots[i]).astype(np.float64) @ query.astype(np.float64)
        exact = np.where(positions < 0, -np.inf, exact.clip(-1, 1).round(6))
        order = np.lexsort((positions, -exact), axis=1)
        return [
            [
                Match(self._names[slots[i, j]], float(exact[i, j]), self._notes[slots[i, j]])
                for j in ranks
                if positions[i, j] >= 0
            ]
            for i, ranks in enumerate(order.tolist())
        ]
