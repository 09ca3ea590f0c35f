"""When an index looks for better coordinates, and what it keeps of its vectors on the way."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import numpy as np
import pytest

from streamer.bench.vectors import like_texts
from streamer.indexer.index import basis, rotation
from streamer.indexer.index.basis import LONGEST
from streamer.indexer.index.blocks import VectorBlocks
from streamer.indexer.index.rotation import Rotation
from streamer.indexer.index.split_blocks import SplitBlocks

ENOUGH, MOST = rotation._enough(384), rotation._enough(LONGEST)


@pytest.mark.parametrize(
    ("dimensions", "capacity", "due_after_ten"),
    [(384, ENOUGH, ENOUGH - 10), (384, ENOUGH - 1, None), (LONGEST, MOST, MOST - 10), (LONGEST + 1, MOST, None)],
)
def test_others_are_looked_for_once_and_only_where_they_can_pay(
    dimensions: int, capacity: int, due_after_ten: int | None
) -> None:
    coordinates = Rotation.initial(dimensions, capacity)
    assert coordinates.due_after(10) == due_after_ten
    if due_after_ten is not None:
        assert coordinates.due_after(capacity + 1) == 0


def test_more_dimensions_need_more_vectors() -> None:
    assert [rotation._enough(dimensions) for dimensions in (3, 384, 768, 1536, LONGEST)] == [
        4096, 4096, 7680, 15_360, 16_384,
    ]  # fmt: skip


def test_vectors_that_are_moved_into_better_coordinates_are_the_same_vectors() -> None:
    vectors = like_texts(np.random.default_rng(1), 600, 64)
    rows = VectorBlocks(700, 64)
    slots = np.random.default_rng(2).permutation(700)[:600]
    rows.put(slots, vectors)
    with patch.object(basis, "_WORTHWHILE", np.inf):
        better = Rotation.initial(64, ENOUGH).improved(rows, slots)
    assert better.basis is not None
    assert better.due_after(10) is None, "they are final"
    moved = better.moved(rows, slots)
    assert isinstance(moved, SplitBlocks)
    assert len(moved) == 700
    np.testing.assert_allclose(better.back(moved.get(slots)), vectors, atol=1e-6)
    np.testing.assert_allclose(moved.get(slots), better.into(vectors), atol=1e-7)
    assert not np.allclose(moved.get(slots), vectors, atol=0.01)


@pytest.mark.parametrize("has_time", [True, False])
def test_a_helper_changes_nothing_whether_it_has_time_or_not(has_time: bool) -> None:
    rows = VectorBlocks(2000, 64)
    slots = np.arange(2000)
    rows.put(slots, like_texts(np.random.default_rng(1), 2000, 64))
    submitted: list[Callable[[], object]] = []
    with ThreadPoolExecutor(1) as pool:

        def beside(work: Callable[[], object]) -> Callable[[], object]:
            submitted.append(work)
            return pool.submit(work).result if has_time else lambda: True

        with patch.object(basis, "_WORTHWHILE", np.inf):
            alone = Rotation.initial(64, ENOUGH).improved(rows, slots)
            helped = Rotation.initial(64, ENOUGH).improved(rows, slots, beside)
        assert alone.basis is not None
        assert helped.basis is not None
        assert helped.basis.leading == alone.basis.leading
        assert (helped.basis.axes == alone.basis.axes).all()
        assert (helped.moved(rows, slots, beside).get(slots) == alone.moved(rows, slots).get(slots)).all()
    assert len(submitted) == 2


def test_in_their_own_coordinates_vectors_stay_as_they_are() -> None:
    coordinates = Rotation.initial(4, 10)
    vectors = np.eye(4, dtype=np.float32)
    assert coordinates.into(vectors) is vectors
    assert coordinates.back(vectors) is vectors
    assert isinstance(coordinates.storage(5), VectorBlocks)
