"""Coordinates: nothing is lost in them, and they are found where they help."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.bench.vectors import like_texts, noise
from streamer.core.vectors import Matrix, unit_rows
from streamer.indexer.index.basis import Basis, find_basis
from streamer.indexer.index.blocks import VectorBlocks


def found(vectors: Matrix) -> Basis | None:
    count, dimensions = vectors.shape
    rows = VectorBlocks(count + 9, dimensions)
    rows.put(np.arange(9, count + 9), vectors)
    return find_basis(rows, np.arange(9, count + 9))


def test_vectors_come_back_and_their_products_stay() -> None:
    rows = like_texts(np.random.default_rng(0), 3000, 96)
    basis = found(rows)
    assert basis is not None
    turned = basis.into(rows)
    assert turned.dtype == rows.dtype
    np.testing.assert_allclose(basis.back(turned), rows, atol=1e-7)
    exact = rows[:50].astype(np.float64) @ rows.T.astype(np.float64)
    np.testing.assert_allclose(turned[:50].astype(np.float64) @ turned.T.astype(np.float64), exact, atol=1e-7)


def test_the_leading_components_hold_most_of_other_vectors_too() -> None:
    basis = found(like_texts(np.random.default_rng(0), 3000, 96))
    assert basis is not None
    assert 24 <= basis.leading <= 72
    others = basis.into(like_texts(np.random.default_rng(7), 500, 96))
    assert (others[:, : basis.leading] ** 2).sum(axis=1).mean() > 0.9


def test_the_same_sample_gives_the_same_coordinates() -> None:
    rows = like_texts(np.random.default_rng(0), 3000, 96)
    one, other = found(rows), found(rows)
    assert one is not None
    assert other is not None
    assert one.leading == other.leading
    assert (one.axes == other.axes).all()


@pytest.mark.parametrize("dimensions", [1, 96])
def test_vectors_without_any_order_are_left_as_they_are(dimensions: int) -> None:
    assert found(noise(np.random.default_rng(0), 2000, dimensions)) is None


def test_vectors_of_a_few_dimensions_need_no_more() -> None:
    few = np.linalg.qr(np.random.default_rng(1).normal(size=(64, 12)))[0]
    basis = found(unit_rows(np.random.default_rng(0).normal(size=(2000, 12)) @ few.T))
    assert basis is not None
    assert basis.leading == 16
