"""Split rows against a plain matrix."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import ranking, rows, split_rows
from streamer.core.split_rows import SplitRows
from streamer.core.vectors import normalize


@given(st.data(), st.integers(1, 30), st.integers(2, 6), st.integers(1, 9))
def test_equal_a_matrix(data: st.DataObject, slots: int, dimensions: int, width: int) -> None:
    rng = np.random.default_rng(0)
    leading = data.draw(st.integers(1, dimensions - 1))
    with patch.object(rows, "WIDTH", width), patch.object(split_rows, "_CHUNK", 4):
        ours, model = SplitRows(slots, dimensions, leading), np.zeros((slots, dimensions), np.float32)
        assert len(ours) == slots
        for places in data.draw(st.lists(st.lists(st.integers(0, slots - 1), unique=True), max_size=4)):
            vectors = rng.integers(-9, 9, (len(places), dimensions)).astype(np.float32)
            ours.put(np.array(places, np.int64), vectors)
            model[places] = vectors
        everywhere = np.arange(slots)
        np.testing.assert_array_equal(ours.get(everywhere), model)

        start = data.draw(st.integers(0, slots - 1))
        stop = data.draw(st.integers(start, slots))
        queries = rng.integers(-9, 9, (data.draw(st.integers(1, 9)), dimensions)).astype(np.float32)
        products = queries @ model[start:stop].T
        bounds, exact = ours.compare(queries, start, stop)
        assert bounds.shape == products.shape
        assert (bounds >= products - 1e-4).all()
        assert exact is not None
        chosen = np.array(data.draw(st.lists(st.integers(0, 9 * 30), unique=True)), np.int64)
        which, columns = np.divmod(np.sort(chosen[chosen < products.size]), max(1, stop - start))
        np.testing.assert_allclose(exact.some(which, columns), products[which, columns], atol=1e-4)
        bounds[0, : stop - start : 2] = -np.inf
        products[0, : stop - start : 2] = -np.inf
        np.testing.assert_allclose(exact.all(), products, atol=1e-4)

        # Closing holes, in place and into more rows.
        kept = np.array(sorted(data.draw(st.sets(st.integers(0, slots - 1)))), np.int64)
        more = SplitRows(slots + 7, dimensions, leading)
        ours.move(kept, more, np.arange(len(kept)) + 3)
        np.testing.assert_array_equal(more.get(np.arange(len(kept)) + 3), model[kept])
        ours.move(kept, ours, np.arange(len(kept)))
        np.testing.assert_array_equal(ours.get(np.arange(len(kept))), model[kept])
        for moved, first in ((more, 3), (ours, 0)):
            bounds, exact = moved.compare(queries, first, first + len(kept))
            assert exact is not None
            assert (bounds >= queries @ model[kept].T - 1e-4).all()


@pytest.mark.parametrize("dimensions", [96, 384, 1024, 2048])
def test_a_pair_scores_the_same_within_resolution_wherever_and_with_whomever_it_is_multiplied(dimensions: int) -> None:
    rng = np.random.default_rng(8)
    queries = normalize(rng.normal(size=(64, dimensions)))
    copied = normalize(queries[:1] + 0.02 * normalize(rng.normal(size=(1, dimensions))))
    copies = SplitRows(2500, dimensions, dimensions // 2)
    copies.put(np.arange(2500), np.tile(copied, (2500, 1)))
    scores, most = [], []
    for count in (1, 2, 3, 7, 64):
        for start, stop in ((0, 2500), (1, 2047), (7, 20), (2100, 2413)):
            bounds, exact = copies.compare(queries[:count], start, stop)
            assert exact is not None
            columns = np.arange(stop - start)
            scores += [exact.some(np.zeros_like(columns), columns), exact.all()[0]]
            most.append(bounds[0])
    assert np.ptp(np.concatenate(scores)) < ranking.RESOLUTION
    true = float(queries[0].astype(np.float64) @ copied[0].astype(np.float64))
    assert np.concatenate(most).min() > true - ranking.RESOLUTION
