"""Shorter vectors for models that were not trained to be cut: principal component analysis, fitted on a sample."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.vectors import Matrix


@dataclass(frozen=True, slots=True)
class Projection:
    """Directions to project on: `axes` (k, dimensions), orthonormal rows, the most important first.

    `space`: the id of the space whose vectors they were fitted to. `kept`: the share of the sample's squared length
    that lies within them.
    """

    axes: Matrix
    space: str
    kept: float

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that change with any of the axes."""
        return hashlib.blake2b(np.ascontiguousarray(self.axes, dtype="<f4").tobytes(), digest_size=6).hexdigest()

    def project(self, rows: Matrix) -> Matrix:
        """Rows (n, dimensions) as (n, k), no longer of unit length."""
        projected: Matrix = rows @ self.axes.T
        return projected


class PrincipalAxes:
    """The axes along which a sample of unit vectors extends most, fitted in one pass in constant memory.

    They go through the origin and not through the sample's mean, as cosines are measured from there: of all projections
    on k axes, these change the inner products within the sample least (Eckart and Young, 1936). Memory: 8 * dimensions
    squared bytes.
    """

    def __init__(self, dimensions: int) -> None:
        self._moments: NDArray[np.float64] = np.zeros((dimensions, dimensions))
        self.count = 0

    def add(self, rows: Matrix) -> None:
        """Take in unit vectors (n, dimensions)."""
        exact = rows.astype(np.float64)
        self._moments += exact.T @ exact
        self.count += len(rows)

    def projection(self, k: int, space: str) -> Projection:
        """The first `k` axes. Raises ValueError when the sample does not determine so many."""
        dimensions = len(self._moments)
        if not 1 <= k < dimensions:
            raise ValueError(f"vectors of {dimensions} dimensions can be reduced to 1 to {dimensions - 1}, not to {k}")
        values, axes = principal_axes(self._moments)
        rank = int((values > values[0] * dimensions * np.finfo(np.float64).eps).sum())
        if k > rank:
            raise ValueError(f"the {self.count} vectors of the sample span {rank} dimensions, too few for {k} axes")
        return Projection(axes[:k].astype(np.float32), space, float(values[:k].sum() / values.sum()))


def principal_axes(moments: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of a sample with these products of its components with each other, (dimensions, dimensions): the squared extents,
    the largest first, and all axes, orthonormal rows, in some order where the sample does not determine it."""
    values, columns = np.linalg.eigh(moments)
    axes = np.ascontiguousarray(columns[:, ::-1].T)
    # An axis has no sign of its own; with one chosen, the same sample gives the same axes.
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    return values[::-1], axes
