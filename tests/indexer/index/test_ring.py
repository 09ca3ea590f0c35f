"""The ring against an ordered dict that does the same thing slowly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.indexer.index.ring import Ring

CAPACITY = 6


@dataclass
class Entry:
    position: int
    payload: int
    time: int


class Model:
    """The newest ids in order of arrival; of each that is gone, the first position that did not see it any more."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.gone: dict[int, int] = {}
        self.head = 0

    def append(self, id: str, payload: int, time: int) -> None:
        if id in self.entries:
            self.gone[self.entries.pop(id).position] = self.head
        elif len(self.entries) == CAPACITY:
            self.gone[self.entries.pop(next(iter(self.entries))).position] = self.head + 1
        self.entries[id] = Entry(self.head, payload, time)
        self.head += 1

    def delete(self, id: str) -> bool:
        entry = self.entries.pop(id, None)
        if entry is not None:
            self.gone[entry.position] = self.head
        return entry is not None

    def close_holes(self, tail: int) -> None:
        for position, entry in enumerate(self.entries.values(), tail):
            entry.position = position
        self.gone.clear()
        self.head = tail + len(self.entries)


def assert_alike(ring: Ring, model: Model) -> None:
    entries = list(model.entries.values())
    positions = [entry.position for entry in entries]
    assert len(ring) == len(entries)
    assert ring.head == model.head
    assert ring.alive().tolist() == [ring.position(id) for id in model.entries] == positions
    assert [ring.slot(id) for id in model.entries] == [position % ring.slots for position in positions]
    assert [ring.payloads[position % ring.slots] for position in positions] == [entry.payload for entry in entries]
    assert ring.before(5) == [id for id, entry in model.entries.items() if entry.time < 5]
    assert ring.dead_before(ring.head).tolist() == sorted({*range(ring.tail, ring.head)} - {*positions})
    seam = min(ring.head, (ring.tail // ring.slots + 1) * ring.slots)
    for start, stop in ((ring.tail, seam), (seam, ring.head)):
        columns, unseen_from = ring.dying(start, stop)
        found = dict(zip((start + columns).tolist(), unseen_from.tolist(), strict=True))
        assert found == {position: gone for position, gone in model.gone.items() if start <= position < stop}


IDS = st.sampled_from("abcdefghij")
BATCHES = st.lists(st.tuples(IDS, st.integers(0, 9)), min_size=1, max_size=4)


@given(st.lists(st.one_of(IDS, BATCHES), max_size=40), st.sampled_from([None, 3]))
def test_it_holds_the_newest_of_each_id_in_order_of_arrival(
    steps: list[str | list[tuple[str, int]]], growth: int | None
) -> None:
    """An id alone deletes it; holes are closed when there is no room for a batch, with or without more slots."""
    ring, model, arrived = Ring(CAPACITY, CAPACITY + 4), Model(), 0
    for step in steps:
        if isinstance(step, str):
            assert ring.delete(step) == model.delete(step)
        else:
            if ring.head - ring.tail + len(step) > ring.slots:
                ring.drop_dead()
            if ring.head - ring.tail + len(step) > ring.slots:
                before = [ring.slot(id) for id in model.entries]
                source, destination = ring.close_holes(ring.slots + (growth or 0))
                model.close_holes(ring.tail)
                assert source.tolist() == before
                assert destination.tolist() == [ring.slot(id) for id in model.entries]
            payloads = [*range(arrived, arrived + len(step))]
            arrived += len(step)
            seen = (ring.tail, ring.head)
            assert ring.append([id for id, _ in step], payloads, [time for _, time in step]) == seen
            for (id, time), payload in zip(step, payloads, strict=True):
                model.append(id, payload, time)
        assert_alike(ring, model)


@pytest.mark.parametrize("tail", [0, 3])
def test_contents_are_copies_in_order_wherever_the_ring_begins(tail: int) -> None:
    ring = Ring(4, 5)
    for number in range(tail + 4):
        ring.drop_dead()
        ring.append([f"id-{number}"], [number], [10 * number])
    ring.drop_dead()
    ids, payloads, times = ring.contents()
    expected = [*range(tail, tail + 4)]
    ring.delete(f"id-{tail}")
    ring.drop_dead()
    ring.append(["new"], ["new"], [99])
    assert ids == [f"id-{number}" for number in expected]
    assert [payloads[i] for i in range(4)] == expected
    assert times.tolist() == [10 * number for number in expected]


def test_notes_and_times_may_be_left_out_and_a_deleted_note_is_let_go() -> None:
    ring = Ring(2, 2)
    ring.append(["a", "b"], [], [])
    assert (ring.payloads[0], ring.payloads[1], ring.times.tolist()) == (None, None, [0, 0])
    ring = Ring(2, 2)
    ring.append(["a"], ["kept alive for nothing"], [1])
    ring.delete("a")
    assert ring.payloads[0] is None
    assert np.array_equal(ring.span(), [0])
