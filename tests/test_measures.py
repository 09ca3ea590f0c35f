from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from streamer.measures import (
    cosine_similarity,
    dot_product,
    euclidean_distance,
    find_most_similar,
    neighbor_agreement,
    normalize,
)

numbers = st.floats(-1e3, 1e3, allow_nan=False, width=32)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two vectors or matrices of one width, in any combination."""
    width = draw(st.integers(1, 8))
    shapes = st.one_of(st.just((width,)), st.tuples(st.integers(1, 5), st.just(width)))
    left, right = (draw(arrays(np.float32, draw(shapes), elements=numbers)) for _ in range(2))
    return left, right


def every_pair(a: np.ndarray, b: np.ndarray, metric: str) -> np.ndarray:
    from scipy.spatial.distance import cdist  # costs each process of pytest-xdist that only collects this file, too

    values: np.ndarray = cdist(np.atleast_2d(a).astype(float), np.atleast_2d(b).astype(float), metric)
    return values.reshape([len(side) for side in (a, b) if side.ndim == 2])


@given(pairs())
def test_products_and_distances_are_those_of_numpy_and_scipy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    expected = np.atleast_2d(a).astype(float) @ np.atleast_2d(b).astype(float).T
    expected = expected.reshape([len(side) for side in (a, b) if side.ndim == 2])
    np.testing.assert_allclose(dot_product(a, b), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(euclidean_distance(a, b), every_pair(a, b, "euclidean"), rtol=1e-9, atol=1e-9)
    assert np.shape(dot_product(a, b)) == np.shape(euclidean_distance(a, b)) == expected.shape


@given(pairs())
def test_cosines_are_those_of_scipy_and_zero_has_none(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    if not all(np.abs(np.atleast_2d(side)).max(axis=1).all() for side in pair):
        with pytest.raises(ValueError, match="no direction"):
            cosine_similarity(a, b)
        return
    found = cosine_similarity(a, b)
    assert np.all(np.abs(found) <= 1)
    # scipy's squares of the smallest numbers leave float64, ours do not.
    a, b = (side / np.abs(side).max(axis=-1, keepdims=True).astype(np.float64) for side in pair)
    np.testing.assert_allclose(found, 1 - every_pair(a, b, "cosine"), atol=1e-9)


@given(arrays(np.float64, array_shapes(min_dims=1, max_dims=2, max_side=8), elements=st.floats(-1e300, 1e300)))
def test_normalising_keeps_shape_and_direction(array: np.ndarray) -> None:
    if not np.abs(np.atleast_2d(array)).max(axis=1).all():
        with pytest.raises(ValueError, match="cannot be normalised"):
            normalize(array)
        return
    unit = normalize(array)
    assert unit.dtype == np.float32
    assert unit.shape == array.shape
    np.testing.assert_allclose(np.linalg.norm(unit.astype(np.float64), axis=-1), 1, atol=1e-6)
    largest = np.abs(array).max(axis=-1, keepdims=True)
    np.testing.assert_allclose(np.diagonal(np.atleast_2d(cosine_similarity(array / largest, unit))), 1, atol=1e-6)


@given(
    arrays(np.float32, st.tuples(st.integers(1, 12), st.just(4)), elements=st.integers(-2, 2)),
    st.integers(1, 15),
)
def test_the_most_similar_are_the_first_of_all_sorted(matrix: np.ndarray, k: int) -> None:
    matrix[~matrix.any(axis=1), 0] = 1
    query = np.array([1, 2, -1, 0.5])
    everything = sorted(((-cosine_similarity(query, row), i) for i, row in enumerate(matrix)))
    found = find_most_similar(query, matrix, k)
    assert len(found) == min(k, len(matrix))
    np.testing.assert_allclose([n.similarity for n in found], [-s for s, _ in everything[:k]], atol=1e-12)
    ranks = [(-neighbor.similarity, neighbor.index) for neighbor in found]
    assert ranks == sorted(ranks)


def test_small_distances_keep_their_digits() -> None:
    a = np.ones(384)
    b = a.copy()
    b[0] += 1e-9
    assert euclidean_distance(a, b) == pytest.approx(1e-9, rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_has_no_direction(bad: float) -> None:
    for measure in (normalize, lambda array: cosine_similarity(array, [1.0, 0.0])):
        with pytest.raises(ValueError, match="row 0"):
            measure([bad, 1.0])


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="of 2 and of 3 dimensions"):
        dot_product([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="one vector and a matrix"):
        find_most_similar([[1.0]], [[1.0]])
    with pytest.raises(ValueError, match="k must be positive"):
        find_most_similar([1.0], [[1.0]], 0)
    with pytest.raises(ValueError, match="3 dimensions"):
        normalize(np.ones((1, 1, 1)))


def test_nothing_is_found_where_there_is_nothing_to_search() -> None:
    assert find_most_similar([1.0, 0.0], np.empty((0, 2))) == []
    assert normalize(np.empty((0, 3))).shape == (0, 3)


@given(st.integers(2, 30), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_agreement_is_a_share_and_whole_where_only_the_axes_differ(n: int, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, others = random.standard_normal((n, 5)), random.standard_normal((n, 3))
    assert 0 <= neighbor_agreement(rows, others, k) <= 1
    assert neighbor_agreement(rows, others, k) == neighbor_agreement(others, rows, k)
    assert neighbor_agreement(rows, others, n) == 1, "all the rest are neighbours"
    turned, _ = np.linalg.qr(random.standard_normal((5, 5)))
    assert neighbor_agreement(rows, 7 * rows @ turned, k) == pytest.approx(1, abs=0.05)


def test_agreement_counts_the_neighbors_that_both_name() -> None:
    line = np.array([[np.cos(angle), np.sin(angle)] for angle in (0.0, 0.1, 0.3, 0.7)])
    exchanged = line[[0, 1, 3, 2]]
    # Nearest in `line`: 0-1, 1-0, 2-1, 3-2; where the last two change places: 0-1, 1-0, 2-3, 3-1.
    assert neighbor_agreement(line, exchanged, 1) == 0.5


def test_agreement_of_strangers_is_chance() -> None:
    random = np.random.default_rng(1)
    assert neighbor_agreement(random.standard_normal((401, 32)), random.standard_normal((401, 48))) < 0.05


@pytest.mark.parametrize(
    ("a", "b", "k"),
    [([[1.0, 0.0]], [[1.0, 0.0]], 1), ([[1.0], [2.0]], [[1.0]], 1), ([[1.0], [2.0]], [[1.0], [2.0]], 0)],
)
def test_agreement_needs_two_rows_for_the_same_texts(a: list[list[float]], b: list[list[float]], k: int) -> None:
    with pytest.raises(ValueError, match=r"expected two matrices|k must be positive"):
        neighbor_agreement(a, b, k)
