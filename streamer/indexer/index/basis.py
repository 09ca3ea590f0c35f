"""Coordinates in which the first few of a vector's components tell nearly all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.projection import PrincipalAxes
from streamer.core.vectors import Matrix
from streamer.indexer.index.blocks import Beside, VectorStorage, at_once

# Turning a vector costs dimensions squared, and finding the axes dimensions cubed: all of it takes 0.1 s for 8,192
# vectors of 384 dimensions, and 5 s for those of so many.
LONGEST: Final = 2048
_NEIGHBOURS: Final = 8  # that the trial looks for
_QUERIES: Final = 64
_OTHERS: Final = 1024
_FITTED: Final = 10  # times as many vectors as dimensions tell the axes; more hardly change them
# What it costs to look at the rest of one pair, in products of whole vectors of many pairs.
_REST: Final = 20.0
_WORTHWHILE: Final = 0.85  # of what the products of whole vectors cost
_PIECE: Final = 256  # vectors at a time: what is made of more would stay with the process


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """`axes`: (dimensions, dimensions) orthonormal rows, so that inner products are the same in both coordinates.

    `leading`: with how many of the components a comparison begins.
    """

    axes: NDArray[np.float64]
    leading: int

    def into(self, vectors: Matrix) -> Matrix:
        """Vectors (n, dimensions) in these coordinates."""
        # In float64, so that a vector's components do not depend on those it comes with but for one in a billion.
        return (vectors.astype(np.float64) @ self.axes.T).astype(np.float32)

    def back(self, turned: Matrix) -> Matrix:
        """The vectors that these were, (n, dimensions), to the last bit or two."""
        return (turned.astype(np.float64) @ self.axes).astype(np.float32)


def find_basis(rows: VectorStorage, slots: NDArray[np.int64], beside: Beside = at_once) -> Basis | None:
    """The principal axes of the unit vectors in these slots, None where they would not make searches faster.

    They are tried: for some of the vectors, how many others have so much in common with it by their leading components
    that they might be among its nearest. Vectors that extend equally far in all directions have no axes that tell more
    than others, those of texts do. `beside`: where half of the work is done.
    """
    pieces = [slots[start : start + _PIECE] for start in range(0, len(slots), _PIECE)]
    queries, others = (rows.get(slots[:: -(-len(slots) // most)]) for most in (_QUERIES, _OTHERS))
    found: list[Matrix] = []
    wait = beside(lambda: found.append(_bars(queries, rows, pieces)))
    dimensions = queries.shape[1]
    axes = PrincipalAxes(dimensions)
    for piece in pieces[:: max(1, len(slots) // (_FITTED * dimensions))]:
        axes.add(rows.get(piece))
    basis = Basis(axes.complete(), dimensions)
    wait()
    bars = found[0] if found else _bars(queries, rows, pieces)
    queries, others = basis.into(queries), basis.into(others)
    costs = {
        leading: leading / dimensions + _REST * float((_bounds(queries, others, leading) > bars).mean())
        for leading in range(max(1, dimensions // 4), dimensions, max(1, dimensions // 16))
    }
    cheapest = min(costs, key=costs.__getitem__, default=dimensions)
    return Basis(basis.axes, cheapest) if costs.get(cheapest, 1) < _WORTHWHILE else None


def _bars(queries: Matrix, rows: VectorStorage, pieces: Sequence[NDArray[np.int64]]) -> Matrix:
    """What a product with each of the queries must exceed to be among its largest, (n, 1)."""
    best: Matrix = np.empty((len(queries), 0), np.float32)
    for piece in pieces:
        best = np.concatenate((best, queries @ rows.get(piece).T), axis=1)
        # One more than that, which is the query itself.
        best = np.partition(best, -min(_NEIGHBOURS + 1, best.shape[1]), axis=1)[:, -_NEIGHBOURS - 1 :]
    bars: Matrix = best.min(axis=1, keepdims=True)
    return bars


def _bounds(queries: Matrix, others: Matrix, leading: int) -> Matrix:
    """What their products cannot exceed, judging by the leading components (Cauchy and Schwarz)."""
    rests = np.outer(*(np.linalg.norm(rows[:, leading:], axis=1) for rows in (queries, others)))
    bounds: Matrix = queries[:, :leading] @ others[:, :leading].T + rests
    return bounds
