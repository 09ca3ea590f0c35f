"""What is kept along with each vector of an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from streamer.core.sketch import UNPACKED_BYTES
from streamer.indexer.index.conditions import Scalar, holds

__all__ = ["Notes", "Payload", "PayloadColumns", "Payloads", "Scalar"]


# Not `frozen`, which would make it three times as slow to create; nobody changes one.
@dataclass(slots=True, unsafe_hash=True)
class Payload:
    """What the index keeps of an event along with its vector. Long texts are cut, large metadata is left out."""

    sketch: bytes | None
    text: str | None
    metadata: Mapping[str, Any] | None

    def satisfies(self, where: Mapping[str, Scalar]) -> bool:
        """Whether the metadata has these values, see `holds`."""
        return all(holds(self.metadata or {}, path, value) for path, value in where.items())


NOTE: Final = np.dtype([("arrival", "<i8"), ("density", "<f4"), ("surprise", "<f4")])
Notes: TypeAlias = Sequence[Any] | NDArray[np.void]
"""Tuples, or an array, of what is in a NOTE."""

NOTHING_MORE: Final = Payload(None, None, None)
"""Of events of which nothing but the sketch is kept."""


class PayloadColumns(Sequence[Payload]):
    """Payloads of so many events, each of which has a sketch: these, (n, UNPACKED_BYTES), and what else there is."""

    def __init__(self, sketches: NDArray[np.uint8], rest: Sequence[Payload]) -> None:
        self.sketches = sketches
        self.rest = rest

    def __len__(self) -> int:
        return len(self.rest)

    @overload
    def __getitem__(self, place: int) -> Payload: ...

    @overload
    def __getitem__(self, place: slice) -> PayloadColumns: ...

    def __getitem__(self, place: int | slice) -> Payload | PayloadColumns:
        if isinstance(place, slice):
            return PayloadColumns(self.sketches[place], self.rest[place])
        more = self.rest[place]
        return Payload(self.sketches[place].tobytes(), more.text, more.metadata)


class Payloads:
    """A payload (any object) for each of so many slots, None at first, and a NOTE in `notes`.

    Of an event that is remembered, the sketch lies in an array with all others: 120 bytes, where objects would take 220
    and keep the garbage collector busy. A text or metadata cost what their objects take.
    """

    def __init__(self, slots: int) -> None:
        self._rest: list[Any] = [None] * slots
        self._sketches: NDArray[np.uint8] | None = None  # from the first one on
        self._sketched: NDArray[np.bool_] = np.zeros(slots, np.bool_)
        self.notes: NDArray[np.void] = np.zeros(slots, NOTE)

    def __len__(self) -> int:
        return len(self._rest)

    def __getitem__(self, slot: int) -> Any:
        payload = self._rest[slot]
        if self._sketches is None or not self._sketched[slot]:
            return payload
        return Payload(self._sketches[slot].tobytes(), payload.text, payload.metadata)

    def __setitem__(self, slot: int, payload: Any) -> None:
        self._sketched[slot] = False
        self._rest[slot] = payload
        if isinstance(payload, Payload) and payload.sketch is not None:
            self._put_sketches([slot], [payload])

    def put(self, slots: NDArray[np.int64], payloads: Sequence[Any], notes: Notes) -> None:
        """A payload and a note for each of these slots, which differ. Of no payloads each is None, no notes are 0."""
        at, rest = slots.tolist(), self._rest
        more = payloads.rest if isinstance(payloads, PayloadColumns) else payloads or [None] * len(at)
        for slot, payload in zip(at, more, strict=True):
            rest[slot] = payload
        self._sketched[slots] = False
        if isinstance(payloads, PayloadColumns):
            self._write_sketches(slots, payloads.sketches)
        elif sketched := [slot for slot in at if isinstance(rest[slot], Payload) and rest[slot].sketch is not None]:
            self._put_sketches(sketched, [rest[slot] for slot in sketched])
        self.notes[slots] = np.array(notes, NOTE) if len(notes) else np.zeros((), NOTE)

    def _put_sketches(self, slots: Sequence[int], payloads: Sequence[Payload]) -> None:
        """Of payloads that have one; what else they hold stays an object."""
        joined = b"".join([payload.sketch or b"" for payload in payloads])
        self._write_sketches(slots, np.frombuffer(joined, np.uint8).reshape(len(slots), UNPACKED_BYTES))
        rest = self._rest
        for slot, payload in zip(slots, payloads, strict=True):
            text, metadata = payload.text, payload.metadata
            rest[slot] = NOTHING_MORE if text is None and metadata is None else Payload(None, text, metadata)

    def _write_sketches(self, slots: Sequence[int] | NDArray[np.int64], sketches: NDArray[np.uint8]) -> None:
        if self._sketches is None:
            self._sketches = self._room()
        self._sketches[slots] = sketches
        self._sketched[slots] = True

    def annotate(self, slots: Sequence[int], notes: Sequence[tuple[int, float, float]]) -> None:
        """Replace notes, where they are of the same arrivals."""
        at, new = np.array(slots, np.int64), np.array(notes, NOTE)
        same = self.notes["arrival"][at] == new["arrival"]
        self.notes[at[same]] = new[same]

    def without_sketch(self, slot: int) -> Any:
        """The payload without its sketch: faster, for a look at many."""
        return self._rest[slot]

    def take(self, other: Payloads, old: NDArray[np.int64], new: NDArray[np.int64]) -> None:
        """Slot `new[i]` gets the payload of slot `old[i]` of another one, or of this one."""
        rest = self._rest
        for old_slot, new_slot in zip(old.tolist(), new.tolist(), strict=True):
            rest[new_slot] = other._rest[old_slot]
        self._sketched[new] = other._sketched[old]
        self.notes[new] = other.notes[old]
        if other._sketches is not None:
            if self._sketches is None:
                self._sketches = self._room()
            self._sketches[new] = other._sketches[old]

    def _room(self) -> NDArray[np.uint8]:
        return np.zeros((len(self), UNPACKED_BYTES), np.uint8)
