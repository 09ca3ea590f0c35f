"""Payloads against a list, and through an index that grows, wraps and closes its holes."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.sketch import UNPACKED_BYTES, sketch, unpack
from streamer.indexer.index import vector_index
from streamer.indexer.index.payloads import NOTHING_MORE, Payload, PayloadColumns, Payloads
from streamer.indexer.index.vector_index import VectorIndex

SKETCHES = st.sampled_from([None, *(unpack(sketch(f"text number {i}")) for i in range(4))])
NOTES = st.one_of(
    st.none(),
    st.integers(),
    st.builds(Payload, SKETCHES, st.none() | st.text(max_size=3), st.none() | st.just({"language": "en"})),
)


@given(st.lists(st.tuples(st.integers(0, 7), NOTES), max_size=40), st.permutations(range(8)))
def test_a_slot_has_the_note_that_it_was_given_last(steps: list[tuple[int, Any]], order: list[int]) -> None:
    payloads, model = Payloads(8), [None] * 8
    for slot, payload in steps:
        payloads[slot] = model[slot] = payload
    assert [payloads[slot] for slot in range(8)] == model
    for slot, payload in enumerate(model):
        assert payloads.without_sketch(slot) == (
            Payload(None, payload.text, payload.metadata) if isinstance(payload, Payload) else payload
        )

    larger = Payloads(16)
    larger.take(payloads, np.array(order[:5]), np.arange(5))
    assert [larger[slot] for slot in range(16)] == [model[slot] for slot in order[:5]] + [None] * 11
    payloads.take(payloads, np.array([2, 4, 6]), np.array([0, 1, 2]))
    assert [payloads[slot] for slot in range(3)] == [model[2], model[4], model[6]]


@given(st.lists(st.tuples(st.integers(0, 9), NOTES), max_size=60), st.integers(1, 7))
def test_notes_stay_with_their_vectors(arrivals: list[tuple[int, Any]], capacity: int) -> None:
    with patch.multiple(vector_index, _QUERIES=3, _FEWEST_SLOTS=3, _FEWEST_BYTES=1):
        index, model = VectorIndex(2, capacity), dict[str, Any]()
        for number, payload in arrivals:
            id = str(number)
            if number == 9:
                index.delete("0")
                model.pop("0", None)
                continue
            index.insert([id], np.ones((1, 2), np.float32), [payload])
            model.pop(id, None)
            model[id] = payload
            if len(model) > capacity:
                del model[next(iter(model))]
        assert {str(i): index.payload(str(i)) for i in range(9)} == dict.fromkeys(map(str, range(9))) | model


@given(st.lists(st.tuples(st.integers(0, 3), st.none() | st.text(max_size=3)), max_size=6), st.integers(0, 6))
def test_columns_are_a_sequence_of_payloads_and_kept_like_one(events: list[tuple[int, str | None]], cut: int) -> None:
    whole = [Payload(unpack(sketch(f"text number {n}")), text, None) for n, text in events]
    sketches = np.frombuffer(b"".join(payload.sketch or b"" for payload in whole), np.uint8).reshape(-1, UNPACKED_BYTES)
    rest = [NOTHING_MORE if text is None else Payload(None, text, None) for _, text in events]
    columns = PayloadColumns(sketches, rest)
    assert list(columns) == whole
    assert list(columns[cut:]) == whole[cut:]
    one, other = Payloads(8), Payloads(8)
    slots = np.arange(len(events), 0, -1)
    for payloads, come in ((one, columns), (other, whole)):
        payloads[1] = "replaced"
        payloads.put(slots, come, [(n, 0.5, 0.25) for n in range(len(events))])
    assert [one[slot] for slot in range(8)] == [other[slot] for slot in range(8)]
    assert one.notes.tobytes() == other.notes.tobytes()
