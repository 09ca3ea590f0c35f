"""What has streamed past, in order of arrival: its ids, payloads and times. The vectors lie elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamer.indexer.index.payloads import Notes, Payloads
from streamer.indexer.index.slot_table import SlotTable

_CHUNK: Final = 1024


class Ring:
    """The newest `capacity` entries by id, in so many slots.

    A position numbers an entry in order of arrival; it lies in slot `position % slots`. Three things follow from that
    order for free: the oldest leave at the tail, the earliest of equally similar ones is met first, and the members of
    a batch are ordinary entries that happen to lie behind their elders.
    """

    def __init__(self, capacity: int, slots: int) -> None:
        self.capacity = capacity
        self.slots = slots
        self.tail = 0
        self.head = 0
        self.names: list[str] = [""] * slots
        self.payloads = Payloads(slots)
        self.times: NDArray[np.int64] = np.zeros(slots, np.int64)
        self._table = SlotTable(capacity)
        # The first position that no longer sees the entry. Entries die in the middle of a batch; members before that
        # moment must still find them, members after it must not.
        self._unseen_from: NDArray[np.int64] = np.zeros(slots, np.int64)  # of the dead
        # Each search looks for them among all slots: of bytes, numpy skips eight at a time.
        self._dead: NDArray[np.bool_] = np.zeros(slots, np.bool_)

    def __len__(self) -> int:
        return len(self._table)

    def slot(self, id: str) -> int | None:
        """Where an id is, None when it is not (or no longer) known."""
        return self._table.find(id, self.names)

    def position(self, id: str) -> int | None:
        """Of an id, None when it is not (or no longer) known."""
        slot = self.slot(id)
        return None if slot is None else self.tail + (slot - self.tail) % self.slots

    def span(self) -> NDArray[np.int64]:
        """Slots from the tail to the head, in order, the dead ones too."""
        return np.arange(self.tail, self.head) % self.slots

    def alive(self) -> NDArray[np.int64]:
        """Positions of all that are remembered, in order."""
        span = np.arange(self.tail, self.head)
        alive: NDArray[np.int64] = span[~self._dead[span % self.slots]]
        return alive

    def dead_before(self, position: int) -> NDArray[np.int64]:
        """Positions from the tail up to this one whose entries are not remembered any more."""
        span = np.arange(self.tail, position)
        dead: NDArray[np.int64] = span[self._dead[span % self.slots]]
        return dead

    def dying(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of these positions, which do not run over the seam, those that are dead or dying: how far from `start` each
        is, and from which position on it is not seen."""
        if start >= self.tail and self.head - self.tail == len(self):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        first = start % self.slots
        columns = np.flatnonzero(self._dead[first : first + stop - start])
        return columns, self._unseen_from[first + columns]

    def append(
        self, ids: Sequence[str], payloads: Sequence[Any], times: Sequence[int], notes: Notes = ()
    ) -> tuple[int, int]:
        """Into slots that are free; the positions of the oldest entry that these can see and of the first of them.

        An older entry of the same id dies, and so does the oldest where there would be more than `capacity`; they keep
        their place until `drop_dead`. Payloads default to None, times and notes to 0.
        """
        oldest, first = self.tail, self.head
        table, names, slots = self._table, self.names, self.slots
        new = np.arange(first, first + len(ids)) % slots
        self._dead[new] = False
        room = self.capacity - len(table)
        for position, (id, slot) in enumerate(zip(ids, new.tolist(), strict=True), first):
            names[slot] = id
            older = table.put(id, slot, names)
            if older is not None:
                self._die(older, position)  # not even by the one that replaces it
            elif room:
                room -= 1
            else:
                self.head = position
                self.drop_dead()
                leaving = self.tail % slots
                table.remove(names[leaving], names)
                self._die(leaving, position + 1)  # the one that displaces it has seen it
        self.head = first + len(ids)
        self.payloads.put(new, payloads, notes)
        self.times[new] = times if len(times) else 0
        return oldest, first

    def delete(self, id: str) -> bool:
        """Forget an id; False when it was not known."""
        slot = self._table.remove(id, self.names)
        if slot is not None:
            self._die(slot, self.head)
            self.names[slot] = ""  # ids may be long
            self.payloads[slot] = None
        return slot is not None

    def _die(self, slot: int, unseen_from: int) -> None:
        self._unseen_from[slot], self._dead[slot] = unseen_from, True

    def before(self, time: int) -> list[str]:
        """The ids of an older time than this."""
        slots = self.alive() % self.slots
        return [self.names[slot] for slot in slots[self.times[slots] < time].tolist()]

    def drop_dead(self) -> None:
        """The dead at the tail leave, and nothing can see them any more."""
        while self.tail < self.head and self._dead[self.tail % self.slots]:
            self.tail += 1

    def contents(self) -> tuple[list[str], Payloads, NDArray[np.int64]]:
        """Copies of ids, payloads and times, in order. There must be no holes."""
        slots, count = self.span(), len(self)
        start = self.tail % self.slots
        payloads = Payloads(count)
        payloads.take(self.payloads, slots, np.arange(count))
        return (self.names[start:] + self.names[:start])[:count], payloads, np.roll(self.times, -start)[:count]

    def close_holes(self, slots: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Into so many slots, as many as there are or more; from which slot to which everything has moved, in order.

        Where their number stays the same nothing moves past what comes after it.
        """
        source = self.alive() % self.slots
        destination = np.arange(self.tail, self.tail + len(source)) % slots
        names = [""] * slots
        payloads = self.payloads if slots == self.slots else Payloads(slots)
        times = np.zeros(slots, np.int64)
        times[destination] = self.times[source]
        for start in range(0, len(source), _CHUNK):  # each is copied before it is written
            old, new = source[start : start + _CHUNK], destination[start : start + _CHUNK]
            payloads.take(self.payloads, old, new)
            for old_slot, new_slot in zip(old.tolist(), new.tolist(), strict=True):
                names[new_slot] = self.names[old_slot]
        moved = np.empty(self.slots, np.int64)
        moved[source] = destination
        self._table.renumber(moved)
        self.names, self.payloads, self.times, self.slots = names, payloads, times, slots
        self.head = self.tail + len(source)
        self._unseen_from, self._dead = np.zeros(slots, np.int64), np.zeros(slots, np.bool_)
        return source, destination
