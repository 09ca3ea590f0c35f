"""How alike vectors are: plain functions on arrays, of any length and scale.

Each of the measures takes vectors (d,) or matrices (n, d) on either side and answers for every pair: a number for two
vectors, (n,) where one side is a matrix, (m, n) for two matrices. Sums are in float64. Raises ValueError when the
widths differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamer.core import vectors
from streamer.core.vectors import Matrix, Vector

Values: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A row of the matrix that was searched: its index, and its cosine with the query."""

    index: int
    similarity: float


def normalize(array: ArrayLike) -> Vector | Matrix:
    """A vector, or each row of a matrix, scaled to length 1, as float32 of the same shape.

    Raises ValueError for one that is zero or holds NaN or infinity.
    """
    given = np.asarray(array)
    if given.ndim not in (1, 2):
        raise ValueError(f"expected a vector or a matrix, not an array of {given.ndim} dimensions")
    # Scaled to their largest component first: squares of very large or very small numbers would leave float64, and the
    # numbers themselves float32.
    rows = np.atleast_2d(given).astype(np.float64)
    largest = np.abs(rows).max(axis=1, initial=0.0, keepdims=True)
    with np.errstate(invalid="ignore"):
        rows = np.divide(rows, largest, out=rows, where=largest > 0)
    return vectors.unit_rows(rows).reshape(given.shape)


def cosine_similarity(a: ArrayLike, b: ArrayLike) -> Any:
    """The cosine of the angle between vectors, in [-1, 1]. Raises ValueError for a zero vector, which has no angle."""
    left, right = _rows(a, b)
    return _shaped(np.clip(_unit(left) @ _unit(right).T, -1.0, 1.0), a, b)


def dot_product(a: ArrayLike, b: ArrayLike) -> Any:
    """The sum of the products of the components; for unit vectors, their cosine."""
    left, right = _rows(a, b)
    return _shaped(left @ right.T, a, b)


def euclidean_distance(a: ArrayLike, b: ArrayLike) -> Any:
    """The length of the difference; for unit vectors, sqrt(2 - 2 * cosine)."""
    left, right = _rows(a, b)
    # Not from products, which lose the digits of small distances; row by row, so that no (m, n, d) array is made.
    distances = np.array([np.linalg.norm(right - row, axis=1) for row in left]).reshape(len(left), len(right))
    return _shaped(distances, a, b)


def find_most_similar(query: ArrayLike, matrix: ArrayLike, k: int = 5) -> list[Neighbor]:
    """The `k` rows of `matrix` with the largest cosine with the vector `query`, best first, ties in order of rows.

    For texts: `EmbeddingService.find_most_similar`. Raises ValueError for a zero vector or arrays of other shapes.
    """
    if k < 1:
        raise ValueError(f"k must be positive, not {k}")
    if np.asarray(query).ndim != 1 or np.asarray(matrix).ndim != 2:
        raise ValueError("expected one vector and a matrix of candidates, one a row")
    similarities = cosine_similarity(query, matrix)
    return [Neighbor(i, float(similarities[i])) for i in np.argsort(-similarities, kind="stable")[:k].tolist()]


def neighbor_agreement(a: ArrayLike, b: ArrayLike, k: int = 10) -> float:
    """How far two models agree on what is similar: of the `k` rows nearest to each row of `a` (by cosine, without the
    row itself), the share that is also among the `k` nearest of the same row of `b`, in the mean over all rows.

    `a`: (n, d), `b`: (n, e), row i of both for the same text. From 0 to 1; what two random models reach is
    k / (n - 1). With fewer than k + 1 rows, k is n - 1. Raises ValueError for fewer than 2 rows or a zero one.
    """
    left, right = (np.asarray(side, dtype=np.float64) for side in (a, b))
    if left.ndim != 2 or right.ndim != 2 or len(left) != len(right) or len(left) < 2:
        raise ValueError("expected two matrices with a row for each of the same texts, at least two")
    if k < 1:
        raise ValueError(f"k must be positive, not {k}")
    k = min(k, len(left) - 1)
    nearest = []
    for side in (left, right):
        similarities = _unit(side) @ _unit(side).T
        np.fill_diagonal(similarities, -np.inf)
        nearest.append(np.argsort(-similarities, axis=1, kind="stable")[:, :k])
    shared = [len(set(one) & set(other)) for one, other in zip(nearest[0].tolist(), nearest[1].tolist(), strict=True)]
    return sum(shared) / (k * len(shared))


def _rows(a: ArrayLike, b: ArrayLike) -> tuple[Values, Values]:
    left, right = (np.atleast_2d(np.asarray(side, dtype=np.float64)) for side in (a, b))
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise ValueError(f"vectors of {left.shape[-1]} and of {right.shape[-1]} dimensions cannot be compared")
    return left, right


def _unit(rows: Values) -> Values:
    largest = np.abs(rows).max(axis=1, initial=0.0, keepdims=True)
    if (bad := np.flatnonzero(~((largest > 0) & np.isfinite(largest)))).size:
        raise ValueError(f"row {bad[0]} is zero or not finite, so it has no direction")
    scaled = rows / largest
    unit: Values = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return unit


def _shaped(values: Values, a: ArrayLike, b: ArrayLike) -> Any:
    # `atleast_2d` made rows of vectors; take those axes out again.
    axes = tuple(axis for axis, side in enumerate((a, b)) if np.ndim(side) == 1)
    shaped = values.squeeze(axis=axes) if axes else values
    return float(shaped) if shaped.ndim == 0 else shaped
