"""What an index held at one moment, read in pieces."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.indexer.index.blocks import VectorBlocks
from streamer.indexer.index.payloads import Payloads
from streamer.indexer.index.read_view import ReadView
from streamer.indexer.index.rotation import Rotation

SLOTS = 8
STORED = np.arange(2 * SLOTS, dtype=np.float32).reshape(SLOTS, 2)


def view_of(start: int, count: int) -> ReadView:
    rows = VectorBlocks(SLOTS, 2)
    rows.put(np.arange(SLOTS), STORED)
    ids = [f"id-{position}" for position in range(start, start + count)]
    return ReadView(rows, Rotation.initial(2, SLOTS), start, ids, Payloads(count), np.zeros(count, np.int64))


@given(st.integers(0, 30), st.integers(0, SLOTS), st.lists(st.integers(1, 5), min_size=SLOTS))
def test_pieces_of_any_size_are_all_vectors_in_order_wherever_the_ring_wraps(
    start: int, count: int, pieces: list[int]
) -> None:
    this = view_of(start, count)
    taken = np.concatenate([this.next_vectors(piece) for piece in pieces])
    assert np.array_equal(taken, STORED[np.arange(start, start + count) % SLOTS])
    assert this.taken
    assert len(this.next_vectors(1)) == 0


def test_a_piece_is_a_copy_and_moves_the_place_up_to_which_rows_may_be_overwritten() -> None:
    this = view_of(6, 4)
    assert not this.taken
    piece = this.next_vectors(3)
    assert this.untaken == 9
    this._storage.put(np.array([6]), np.full((1, 2), 99, np.float32))
    assert np.array_equal(piece[0], STORED[6])


def test_what_is_released_need_not_be_kept() -> None:
    this = view_of(6, 4)
    this.next_vectors(1)
    this.release()
    assert this.taken
    assert this.untaken == 10
