"""Background: the mean cosine of recent events, to the last bit however it got there."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.core.vectors import Matrix, unit_rows
from streamer.indexer.verdicts.background import Background


def units(count: int, seed: int) -> Matrix:
    return unit_rows(np.random.default_rng(seed).normal(size=(count, 16)) + 0.3)


def test_it_is_the_mean_cosine_of_two_of_the_latest() -> None:
    background, vectors = Background(16, window=128), units(320, 3)
    for row in vectors:
        background.add(row)
    kept = vectors[-128:].astype(float)
    products = kept @ kept.T
    assert abs(background.value - (products.sum() - np.trace(products)) / (128 * 127)) < 1e-3
    assert len(background) == 128


@pytest.mark.parametrize("before", [5, 100, 300])
def test_it_goes_on_where_another_one_was(before: int) -> None:
    through, vectors = Background(16, window=128), units(600, 4)
    for row in vectors[:before]:
        through.add(row)
    resumed = Background(16, window=128)
    resumed.resume(*through.state())
    for row in vectors[before:]:
        through.add(row)
        resumed.add(row)
        assert resumed.value == through.value
    assert np.array_equal(resumed.state()[0], through.state()[0])


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Background(16, window=8).resume(units(4, 1), 7, 0.0)
