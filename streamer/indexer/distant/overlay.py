"""The latest events of an index that lies elsewhere: what the store may not show yet, and what it shows still.

Of the ids that it holds, it knows better than the store. It asks nobody and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from streamer.core.sketch import TextForm
from streamer.core.vector_events import VectorEvent
from streamer.core.vectors import Matrix
from streamer.core.verdicts import Match
from streamer.indexer.event_index import payload_of
from streamer.indexer.index.payloads import Payload
from streamer.indexer.index.vector_index import VectorIndex
from streamer.stores import Found, StoredEvent

WINDOW: Final = 8_192  # events that are held here
_DROPPED: Final = 4  # a quarter of them leaves at once

IsStale = Callable[[StoredEvent], bool]


@dataclass(slots=True, unsafe_hash=True)
class SourcedPayload(Payload):
    """A payload with the rest of what a store keeps: the form of the text, and where the event lies in its topic."""

    form: TextForm | None = None
    partition: int = -1
    offset: int = -1


def sourced_payload(event: VectorEvent) -> SourcedPayload:
    """What a store keeps of an event along with its vector."""
    kept = payload_of(event) or Payload(None, None, None)
    partition, offset = (-1 if number is None else number for number in (event.partition, event.offset))
    return SourcedPayload(kept.sketch, kept.text, kept.metadata, event.form, partition, offset)


@dataclass(slots=True)
class Latest:
    """What is known of an event beside what the index keeps of it. `note`: see Note; `first`: None for its own."""

    payload: SourcedPayload
    time: int
    note: tuple[int, float, float]
    first: str | None = None
    is_judged: bool = False


class Overlay:
    """The latest `window` events, as `index` and as `events` by id, oldest first. `gone`: ids deleted lately.
    `unwritten`: ids of what the store has not been given yet."""

    def __init__(self, dimensions: int, window: int = WINDOW) -> None:
        self.window = window
        self.index = VectorIndex(dimensions, window)
        self.events: dict[str, Latest] = {}
        self.gone: dict[str, None] = {}
        self.unwritten: dict[str, None] = {}

    def note(self, ids: Sequence[str], payloads: Sequence[Any], times: Sequence[int], notes: Sequence[Any]) -> None:
        """Keep what belongs to events that have just been put into the index, not judged yet."""
        for id, payload, time, note in zip(ids, payloads, times, notes, strict=True):
            self.events.pop(id, None)
            self.events[id] = Latest(payload, time, tuple(note))
            self.gone.pop(id, None)
            self.unwritten[id] = None

    def groups_of(self, ids: Iterable[str], met: Mapping[str, StoredEvent]) -> dict[str, tuple[str | None, bool]]:
        """The groups that these ids are in, and whether they have been judged; those that nobody can ask for left
        out."""
        known = ((id, self.events.get(id) or met.get(id)) for id in ids)
        return {id: (event.first, event.is_judged) for id, event in known if event is not None}

    def plain(self, payloads: Sequence[SourcedPayload]) -> list[Payload | None]:
        """As the index keeps them."""
        return [
            None
            if payload.sketch is None and payload.text is None and payload.metadata is None
            else Payload(payload.sketch, payload.text, payload.metadata)
            for payload in payloads
        ]

    def annotate(self, ids: Sequence[str], notes: Sequence[tuple[int, float, float]]) -> None:
        """Replace notes, where they are of the same arrivals."""
        self.index.annotate(ids, notes)
        for id, note in zip(ids, notes, strict=True):
            event = self.events.get(id)
            if event is not None and event.note[0] == note[0]:
                event.note = note
                self.unwritten[id] = None

    def delete(self, id: str) -> bool | None:
        """Whether it was there; None where only the store can tell."""
        if id in self.gone:
            return False
        known = self.events.pop(id, None) is not None
        self.index.delete(id)
        self.unwritten.pop(id, None)
        self.gone[id] = None
        if len(self.gone) > self.window:
            del self.gone[next(iter(self.gone))]
        return True if known else None

    def expire(self, before: int) -> list[str]:
        """Forget what is of an earlier time; their ids."""
        return self.drop([id for id, event in self.events.items() if event.time < before])

    def oldest(self, room: int) -> list[str]:
        """Which events have to leave before so many can be taken in: none, or so many that it is worth while."""
        surplus = len(self.events) + room - self.window
        if surplus <= 0:
            return []
        return list(self.events)[: max(surplus, self.window // _DROPPED)]

    def drop(self, ids: Sequence[str]) -> list[str]:
        """The store tells of these from now on."""
        for id in ids:
            self.index.delete(id)
            del self.events[id]
            self.unwritten.pop(id, None)
        return list(ids)

    def of_other_partitions(self, partitions: Collection[int]) -> list[str]:
        return [id for id, event in self.events.items() if event.payload.partition not in partitions]

    def stored(self, ids: Iterable[str]) -> list[StoredEvent]:
        """As the store is to keep them."""
        written = []
        for id in ids:
            event = self.events[id]
            payload, (arrival, density, surprise) = event.payload, event.note
            written.append(
                StoredEvent(
                    id=id,
                    partition=payload.partition,
                    offset=payload.offset,
                    time=event.time,
                    arrival=arrival,
                    density=density,
                    surprise=surprise,
                    first=event.first,
                    is_judged=event.is_judged,
                    sketch=payload.sketch,
                    form=payload.form,
                    text=payload.text,
                    metadata=payload.metadata,
                    vector=self.index.get(id),
                )
            )
        return written

    def is_stale(self, event: StoredEvent) -> bool:
        """Whether the store shows what has been replaced or deleted since."""
        known = self.events.get(event.id)
        return event.id in self.gone or (known is not None and known.note[0] != event.arrival)

    def rules_for(self, ids: Sequence[str]) -> list[IsStale]:
        """The same for each member of a batch, as it is when it arrives. To be made before the batch is taken in."""
        replaced: dict[str, int] = {}
        for place, id in enumerate(ids):
            replaced.setdefault(id, place)
        stale_before = {
            id: (id in self.gone, None if (known := self.events.get(id)) is None else known.note[0]) for id in replaced
        }

        def rule(place: int) -> IsStale:
            def is_stale(event: StoredEvent) -> bool:
                if event.id not in replaced:
                    return self.is_stale(event)
                was_gone, arrival = stale_before[event.id]
                return replaced[event.id] <= place or was_gone or arrival not in (None, event.arrival)

            return is_stale

        return [rule(place) for place in range(len(ids))]


def merged(
    near: Sequence[Match],
    far: Sequence[Found],
    k: int,
    is_stale: IsStale,
    *,
    was_cut: bool,
    described: int | None = None,
    latest: int | None = None,
) -> list[Match] | None:
    """The `k` best of both, ties in order of arrival; None where the store has to be asked for more.

    `near`: the best of the overlay; `far`: of the store, which has left out further ones if it `was_cut`. `latest`: no
    number of arrival is larger than this one; those of other indexers might be.
    """
    current = [found for found in far if not is_stale(found.event)]
    if was_cut and len(current) < k:
        return None
    ids = {match.id for match in near}
    both = [*near, *(_match(found, latest) for found in current if found.event.id not in ids)]
    both.sort(key=lambda match: (-match.similarity, match.note[0]))
    shown = k if described is None else described
    return [match if rank < shown else match._replace(payload=None) for rank, match in enumerate(both[:k])]


def _match(found: Found, latest: int | None) -> Match:
    event = found.event
    arrival = event.arrival if latest is None else min(event.arrival, latest)
    payload = Payload(event.sketch, event.text, event.metadata)
    return Match(event.id, found.similarity, payload, (arrival, event.density, event.surprise))


def as_given(events: Sequence[StoredEvent]) -> tuple[list[str], list[SourcedPayload], list[int], list[Any]]:
    """What an overlay is given of events that the store holds: ids, payloads, times and notes."""
    payloads = [SourcedPayload(e.sketch, e.text, e.metadata, form_of(e), e.partition, e.offset) for e in events]
    notes = [(e.arrival, e.density, e.surprise) for e in events]
    return [e.id for e in events], payloads, [e.time for e in events], notes


def form_of(event: StoredEvent) -> TextForm | None:
    return None if event.form is None else TextForm(*event.form)


def matrix(events: Sequence[StoredEvent], dimensions: int) -> Matrix:
    """Their vectors, (n, dimensions)."""
    rows = [event.vector for event in events]
    return np.array(rows, np.float32).reshape(len(rows), dimensions)
