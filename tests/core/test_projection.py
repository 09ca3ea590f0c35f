from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.projection import PrincipalAxes, Projection
from streamer.core.vectors import Matrix, unit_rows


def sample(count: int, dimensions: int, seed: int = 0) -> Matrix:
    """Unit vectors that extend differently far in different directions, none of them an axis of the coordinates."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(dimensions, dimensions)))
    rows = rng.normal(size=(count, dimensions)) * np.geomspace(1, 0.01, dimensions)
    return unit_rows(rows @ turn)


def fitted(rows: Matrix, k: int, *cuts: int) -> Projection:
    axes = PrincipalAxes(rows.shape[1])
    for part in np.split(rows, cuts):
        axes.add(part)
    assert axes.count == len(rows)
    return axes.projection(k, "space")


@given(st.integers(2, 12), st.integers(20, 60), st.integers(0, 1000), st.data())
def test_axes_are_orthonormal_and_no_projection_keeps_more(
    dimensions: int, count: int, seed: int, data: st.DataObject
) -> None:
    rows = sample(count, dimensions, seed)
    k = data.draw(st.integers(1, dimensions - 1))
    projection = fitted(rows, k, count // 3)
    np.testing.assert_allclose(projection.axes @ projection.axes.T, np.eye(k), atol=1e-5)
    kept = float((projection.project(rows).astype(np.float64) ** 2).sum()) / count
    assert kept == pytest.approx(projection.kept, abs=1e-5)
    # Against numpy's singular values, which nothing of ours has touched.
    singular = np.linalg.svd(rows.astype(np.float64), compute_uv=False)
    assert kept == pytest.approx((singular[:k] ** 2).sum() / count, abs=1e-5)
    other, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(dimensions, k)))
    assert kept >= float(((rows @ other) ** 2).sum()) / count - 1e-6


def test_the_way_the_sample_is_cut_does_not_matter_and_neither_does_its_order() -> None:
    rows = sample(200, 16)
    whole, parts, backwards = fitted(rows, 4), fitted(rows, 4, 1, 60, 61), fitted(rows[::-1], 4)
    np.testing.assert_allclose(parts.axes, whole.axes, atol=1e-6)
    np.testing.assert_allclose(backwards.axes, whole.axes, atol=1e-6)


def test_cosines_survive_where_the_sample_is_flat() -> None:
    flat = sample(300, 32).copy()
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(32, 6)))[0]
    flat = unit_rows(flat @ basis @ basis.T)
    projection = fitted(flat, 6)
    reduced = unit_rows(projection.project(flat))
    np.testing.assert_allclose(reduced @ reduced.T, flat @ flat.T, atol=1e-5)
    assert projection.kept == pytest.approx(1)


def test_the_fingerprint_is_that_of_the_axes() -> None:
    rows = sample(100, 8)
    assert fitted(rows, 3).fingerprint == fitted(rows, 3).fingerprint
    assert (
        len({fitted(rows, 3).fingerprint, fitted(rows, 4).fingerprint, fitted(sample(100, 8, 1), 3).fingerprint}) == 3
    )


def test_a_sample_that_says_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="the 3 vectors of the sample span 3 dimensions, too few for 4 axes"):
        fitted(sample(3, 8), 4)
    for k in (0, 8, 9):
        with pytest.raises(ValueError, match="can be reduced to 1 to 7"):
            fitted(sample(50, 8), k)
