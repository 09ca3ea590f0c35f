"""Rows against a plain matrix."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import rows
from streamer.core.rows import Rows


@given(st.data(), st.integers(1, 30), st.integers(1, 5), st.integers(1, 9))
def test_equal_a_matrix(data: st.DataObject, slots: int, dimensions: int, width: int) -> None:
    rng = np.random.default_rng(0)
    with patch.object(rows, "WIDTH", width):
        ours, model = Rows(slots, dimensions), np.zeros((slots, dimensions), np.float32)
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
        # Whole numbers this small have exact products.
        with ThreadPoolExecutor(1) as pool:
            shared = ours.products(queries, start, stop, lambda work: pool.submit(work).result)
            for products in (ours.products(queries, start, stop), shared):
                np.testing.assert_array_equal(products, queries @ model[start:stop].T)

        # Closing holes, in place and into more rows.
        kept = np.array(sorted(data.draw(st.sets(st.integers(0, slots - 1)))), np.int64)
        more = Rows(slots + 7, dimensions)
        ours.move(kept, more, np.arange(len(kept)) + 3)
        np.testing.assert_array_equal(more.get(np.arange(len(kept)) + 3), model[kept])
        ours.move(kept, ours, np.arange(len(kept)))
        np.testing.assert_array_equal(ours.get(np.arange(len(kept))), model[kept])


def test_small_batches_are_shared_with_another_thread() -> None:
    with patch.object(rows, "WIDTH", 4):
        many = Rows(64, 3)
        for count, parts in ((1, 1), (2, 1), (4, 1), (48, 1), (49, 0), (64, 0)):
            begun: list[object] = []

            def beside(work: Callable[[], object], begun: list[object] = begun) -> Callable[[], object]:
                begun.append(work())
                return lambda: None

            many.products(np.ones((count, 3), np.float32), 0, 64, beside)
            assert len(begun) == parts, count
