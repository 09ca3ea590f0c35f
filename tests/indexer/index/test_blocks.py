"""VectorBlocks, and split ones, against a plain matrix."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.core.vectors import Matrix
from streamer.indexer.index import blocks, split_blocks
from streamer.indexer.index.blocks import VectorBlocks, VectorStorage
from streamer.indexer.index.split_blocks import SplitBlocks


@pytest.mark.parametrize("split", [False, True])
@given(st.data(), st.integers(1, 30), st.integers(2, 6), st.integers(1, 9))
def test_blocks_hold_and_multiply_what_a_plain_matrix_would(
    split: bool, data: st.DataObject, slots: int, dimensions: int, width: int
) -> None:
    rng = np.random.default_rng(0)
    leading = data.draw(st.integers(1, dimensions - 1))

    def empty(slots: int) -> VectorStorage:
        return SplitBlocks(slots, dimensions, leading) if split else VectorBlocks(slots, dimensions)

    with patch.object(blocks, "WIDTH", width), patch.object(split_blocks, "_CHUNK", 4):
        ours, model = empty(slots), np.zeros((slots, dimensions), np.float32)
        assert len(ours) == slots
        for places in data.draw(st.lists(st.lists(st.integers(0, slots - 1), unique=True), max_size=4)):
            vectors = rng.integers(-9, 9, (len(places), dimensions)).astype(np.float32)
            ours.put(np.array(places, np.int64), vectors)
            model[places] = vectors
        everywhere = np.arange(slots)
        np.testing.assert_array_equal(ours.get(everywhere), model)
        some = np.array(data.draw(st.lists(st.integers(0, slots - 1))), np.int64)
        np.testing.assert_array_equal(ours.get(some), model[some])

        start = data.draw(st.integers(0, slots - 1))
        stop = data.draw(st.integers(start, slots))
        queries = rng.integers(-9, 9, (data.draw(st.integers(1, 9)), dimensions)).astype(np.float32)
        pairs = np.array(sorted(data.draw(st.sets(st.integers(0, 9 * 30)))), np.int64)
        compares_like(ours, queries, start, model[start:stop], pairs)

        # Closing holes, in place and into more rows.
        kept = np.array(sorted(data.draw(st.sets(st.integers(0, slots - 1)))), np.int64)
        more = empty(slots + 7)
        ours.move(kept, more, np.arange(len(kept)) + 3)
        np.testing.assert_array_equal(more.get(np.arange(len(kept)) + 3), model[kept])
        compares_like(more, queries, 3, model[kept], pairs)
        ours.move(kept, ours, np.arange(len(kept)))
        np.testing.assert_array_equal(ours.get(np.arange(len(kept))), model[kept])
        compares_like(ours, queries, 0, model[kept], pairs)


def compares_like(ours: VectorStorage, queries: Matrix, start: int, model: Matrix, pairs: NDArray[np.int64]) -> None:
    """Alone and with another thread. `pairs`: numbers of some of them."""
    expected = queries @ model.T
    which, columns = np.divmod(pairs[pairs < expected.size], max(1, len(model)))
    with ThreadPoolExecutor(1) as pool:
        for beside in (None, lambda work: pool.submit(work).result):
            products, exact = ours.compare(queries, start, start + len(model), beside)
            assert products.shape == expected.shape
            if exact is None:
                # Whole numbers this small have exact products.
                np.testing.assert_array_equal(products, expected)
                continue
            assert (products >= expected - 1e-4).all()
            np.testing.assert_allclose(exact.some(which, columns), expected[which, columns], atol=1e-4)
            products[:, ::2] = -np.inf
            assert np.isneginf(exact.all()[:, ::2]).all()
            np.testing.assert_allclose(exact.all()[:, 1::2], expected[:, 1::2], atol=1e-4)


def test_small_batches_are_shared_with_another_thread() -> None:
    with patch.object(blocks, "WIDTH", 4):
        many = VectorBlocks(64, 3)
        for count, parts in ((1, 1), (2, 1), (4, 1), (48, 1), (49, 0), (64, 0)):
            begun: list[object] = []

            def beside(work: Callable[[], object], begun: list[object] = begun) -> Callable[[], object]:
                begun.append(work())
                return lambda: None

            many.products(np.ones((count, 3), np.float32), 0, 64, beside)
            assert len(begun) == parts, count
