"""What split rows tell of a pair; see test_rows.py for the rest."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.core.vectors import unit_rows
from streamer.indexer.index import top_k
from streamer.indexer.index.split_blocks import SplitBlocks


@pytest.mark.parametrize(
    "dimensions", [96, 384, *(pytest.param(many, marks=pytest.mark.slow) for many in (1024, 2048))]
)
def test_a_pair_scores_the_same_within_resolution_wherever_and_with_whomever_it_is_multiplied(dimensions: int) -> None:
    rng = np.random.default_rng(8)
    queries = unit_rows(rng.normal(size=(64, dimensions)))
    copied = unit_rows(queries[:1] + 0.02 * unit_rows(rng.normal(size=(1, dimensions))))
    copies = SplitBlocks(2500, dimensions, dimensions // 2)
    copies.put(np.arange(2500), np.tile(copied, (2500, 1)))
    scores, most = [], []
    for count in (1, 2, 3, 7, 64):
        for start, stop in ((0, 2500), (1, 2047), (7, 20), (2100, 2413)):
            bounds, exact = copies.compare(queries[:count], start, stop)
            assert exact is not None
            columns = np.arange(stop - start)
            scores += [exact.some(np.zeros_like(columns), columns), exact.all()[0]]
            most.append(bounds[0])
    assert np.ptp(np.concatenate(scores)) < top_k.RESOLUTION
    true = float(queries[0].astype(np.float64) @ copied[0].astype(np.float64))
    assert np.concatenate(most).min() > true - top_k.RESOLUTION
