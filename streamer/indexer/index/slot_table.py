"""Which slot holds which id: a hash table of slot numbers."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_EMPTY: Final = -1


class SlotTable:
    """The slots of at most `most` ids (and one more for a moment), in 6 to 12 bytes an id; a dict and its integers take
    about 85.

    Open addressing with linear probing, never more than two thirds full. The ids themselves lie with the caller, who
    passes `names` (ids by slot), and must leave those alone that are in the table.
    """

    def __init__(self, most: int) -> None:
        size = 1 << (3 * (most + 1) // 2).bit_length()
        self._table = array("i", [_EMPTY]) * size
        self._mask = size - 1
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, id: str, names: Sequence[str]) -> int | None:
        """The slot of an id, None when it is not known."""
        slot = self._table[self._place(id, names)]
        return None if slot == _EMPTY else slot

    def put(self, id: str, slot: int, names: Sequence[str]) -> int | None:
        """The slot that the id had before, None when it is a new one."""
        table, mask = self._table, self._mask
        place = hash(id) & mask  # as `_place`, without a call: this is done for every vector
        while (older := table[place]) != _EMPTY and names[older] != id:
            place = (place + 1) & mask
        table[place] = slot
        if older != _EMPTY:
            return older
        self._count += 1
        return None

    def remove(self, id: str, names: Sequence[str]) -> int | None:
        """The slot that the id had, None when it is not known."""
        table, mask = self._table, self._mask
        place = gap = self._place(id, names)
        removed = table[gap]
        if removed == _EMPTY:
            return None
        # Whoever was pushed behind by what lies in the gap must be found without it: they move up.
        while (slot := table[place := (place + 1) & mask]) != _EMPTY:
            if (place - hash(names[slot])) & mask >= (place - gap) & mask:
                table[gap] = slot
                gap = place
        table[gap] = _EMPTY
        self._count -= 1
        return removed

    def renumber(self, slots: NDArray[np.int64]) -> None:
        """What was in slot i is in slot `slots[i]` now."""
        table = np.frombuffer(self._table, np.intc)
        known = table != _EMPTY
        table[known] = slots[table[known]]

    def _place(self, id: str, names: Sequence[str]) -> int:
        table, mask = self._table, self._mask
        place = hash(id) & mask
        while (slot := table[place]) != _EMPTY and names[slot] != id:
            place = (place + 1) & mask
        return place
